"""The dense tasks: what is predicted, in one place each."""

from .base import DenseTask
from .depth import Depth
from .normal import SurfaceNormal
from .semantic_segmentation import SemanticSegmentation

__all__ = ['DenseTask', 'Depth', 'SemanticSegmentation', 'SurfaceNormal']
