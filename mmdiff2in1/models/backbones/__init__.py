"""Backbones that see through a diffusion model."""

from .diffusion_backbone import DiffusionBackbone
from .feature_config import FeatureConfig, feature_config
from .frozen_features import FrozenFeatures

__all__ = ['DiffusionBackbone', 'FeatureConfig', 'FrozenFeatures', 'feature_config']
