"""Necks that mmseg does not have."""

from .diffusion_pyramid_adapter import DiffusionPyramidAdapter
from .released_adapter import ReleasedAdapter

__all__ = ['DiffusionPyramidAdapter', 'ReleasedAdapter']
