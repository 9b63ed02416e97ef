"""What sees: backbones, decode heads, and the segmentor that improves itself."""

from .backbones import DiffusionBackbone, FeatureConfig, FrozenFeatures
from .decode_heads import GenerativeDecodeHead
from .segmentors import SelfImprovingSegmentor

__all__ = ['DiffusionBackbone', 'FeatureConfig', 'FrozenFeatures', 'GenerativeDecodeHead', 'SelfImprovingSegmentor']
