"""Backbones that see through a diffusion model, those of transformers, and plain vision transformers."""

from .diffusion_backbone import DiffusionBackbone
from .feature_config import FeatureConfig, feature_config
from .frozen_features import FrozenFeatures
from .hf_backbone import HFBackbone
from .meta_prompt_backbone import MetaPromptBackbone
from .vit_levels import ViTLevels

__all__ = [
    'DiffusionBackbone',
    'FeatureConfig',
    'FrozenFeatures',
    'HFBackbone',
    'MetaPromptBackbone',
    'ViTLevels',
    'feature_config',
]
