"""Decode heads."""

from .generative_decode_head import GenerativeDecodeHead

__all__ = ['GenerativeDecodeHead']
