"""The dense tasks: what is predicted, in one place each."""

from .base import VALID_REGION, DenseTask
from .depth import Depth
from .normal import SurfaceNormal
from .semantic_segmentation import SemanticSegmentation

__all__ = ['VALID_REGION', 'DenseTask', 'Depth', 'SemanticSegmentation', 'SurfaceNormal']
