"""Backbones that see through a diffusion model, and those of transformers."""

from .diffusion_backbone import DiffusionBackbone
from .feature_config import FeatureConfig, feature_config
from .frozen_features import FrozenFeatures
from .hf_backbone import HFBackbone

__all__ = ['DiffusionBackbone', 'FeatureConfig', 'FrozenFeatures', 'HFBackbone', 'feature_config']
