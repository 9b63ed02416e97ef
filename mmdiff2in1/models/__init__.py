"""What sees: backbones, decode heads, and the segmentor that improves itself."""

from .backbones import DiffusionBackbone, FeatureConfig, FrozenFeatures
from .decode_heads import GenerativeDecodeHead
from .segmentors import DenoisingEncoderDecoder, SelfImprovingSegmentor

__all__ = [
    'DenoisingEncoderDecoder',
    'DiffusionBackbone',
    'FeatureConfig',
    'FrozenFeatures',
    'GenerativeDecodeHead',
    'SelfImprovingSegmentor',
]
