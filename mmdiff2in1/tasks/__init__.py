"""The dense tasks: what is predicted, in one place each."""

from .base import VALID_REGION, DenseTask
from .depth import Depth
from .normal import SurfaceNormal
from .semantic_segmentation import SemanticSegmentation
from .task_set import TaskSet, stacked_targets

__all__ = ['VALID_REGION', 'DenseTask', 'Depth', 'SemanticSegmentation', 'SurfaceNormal', 'TaskSet', 'stacked_targets']
