"""Steps of a data pipeline that mmseg does not have: captions, and maps of continuous tasks."""

from .colour_augmentation import ColourAugmentation
from .cut_depth import CutDepth
from .dense_geometry import DenseRandomFlip, DenseResize
from .edges_from_classes import EdgesFromClasses
from .load_caption import LoadCaption
from .load_dense_annotation import LoadDenseAnnotation
from .missing_maps import LoadClassAnnotation
from .pack_dense_inputs import PackDenseInputs
from .strong_colour import StrongColour

__all__ = [
    'ColourAugmentation',
    'CutDepth',
    'DenseRandomFlip',
    'DenseResize',
    'EdgesFromClasses',
    'LoadCaption',
    'LoadClassAnnotation',
    'LoadDenseAnnotation',
    'PackDenseInputs',
    'StrongColour',
]
