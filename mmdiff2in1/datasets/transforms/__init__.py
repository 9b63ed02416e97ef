"""Steps of a data pipeline that mmseg does not have: captions, and maps of continuous tasks."""

from .colour_augmentation import ColourAugmentation
from .cut_depth import CutDepth
from .dense_geometry import DenseRandomCrop, DenseRandomFlip, DenseResize, RandomZoom
from .edges_from_classes import EdgesFromClasses
from .ignore_without_persons import IgnoreWithoutPersons
from .load_caption import LoadCaption
from .load_dense_annotation import LoadDenseAnnotation
from .load_label_map import LoadLabelMap
from .missing_maps import LoadClassAnnotation
from .pack_dense_inputs import PackDenseInputs
from .strong_colour import StrongColour

__all__ = [
    'ColourAugmentation',
    'CutDepth',
    'DenseRandomCrop',
    'DenseRandomFlip',
    'DenseResize',
    'EdgesFromClasses',
    'IgnoreWithoutPersons',
    'LoadCaption',
    'LoadClassAnnotation',
    'LoadDenseAnnotation',
    'LoadLabelMap',
    'PackDenseInputs',
    'RandomZoom',
    'StrongColour',
]
