"""The dense tasks: what is predicted, in one place each."""

from .base import VALID_REGION, DenseTask
from .depth import Depth
from .edges import Edges
from .human_parts import HumanParts
from .normal import SurfaceNormal
from .saliency import Saliency
from .semantic_segmentation import SemanticSegmentation
from .task_set import TaskSet, stacked_targets

__all__ = [
    'VALID_REGION',
    'DenseTask',
    'Depth',
    'Edges',
    'HumanParts',
    'Saliency',
    'SemanticSegmentation',
    'SurfaceNormal',
    'TaskSet',
    'stacked_targets',
]
