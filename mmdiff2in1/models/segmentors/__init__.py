"""Segmentors beside mmseg's: one for any set of tasks, one that is told the scene, one that goes on denoising, one that begins so."""

from .denoising import DenoisingEncoderDecoder
from .denoising_pretraining import DenoisingPretraining
from .dense_estimator import DenseEstimator
from .dense_tta import DenseTTAModel
from .scene_conditioned import SceneConditionedEstimator

__all__ = ['DenoisingEncoderDecoder', 'DenoisingPretraining', 'DenseEstimator', 'DenseTTAModel', 'SceneConditionedEstimator']
