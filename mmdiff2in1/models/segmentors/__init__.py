"""Segmentors beside mmseg's: for any set of tasks, told the scene, going on denoising, or beginning with it."""

from .denoising import DenoisingEncoderDecoder
from .denoising_pretraining import DenoisingPretraining
from .dense_estimator import DenseEstimator
from .dense_tta import DenseTTAModel
from .scene_conditioned import SceneConditionedEstimator

__all__ = [
    'DenoisingEncoderDecoder',
    'DenoisingPretraining',
    'DenseEstimator',
    'DenseTTAModel',
    'SceneConditionedEstimator',
]
