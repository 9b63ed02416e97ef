"""Segmentors: the wrapper that trains θ_E next to θ_C, its moving average; those for maps; one that denoises on."""

from .denoising import DenoisingEncoderDecoder
from .dense_estimator import DenseEstimator
from .dense_tta import DenseTTAModel
from .parameter_pairs import EMATensors
from .scene_conditioned import SceneConditionedEstimator
from .self_improving import SelfImprovingSegmentor

__all__ = [
    'DenoisingEncoderDecoder',
    'DenseEstimator',
    'DenseTTAModel',
    'EMATensors',
    'SceneConditionedEstimator',
    'SelfImprovingSegmentor',
]
