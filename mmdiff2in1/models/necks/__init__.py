"""Necks that mmseg does not have."""

from .diffusion_pyramid_adapter import DiffusionPyramidAdapter

__all__ = ['DiffusionPyramidAdapter']
