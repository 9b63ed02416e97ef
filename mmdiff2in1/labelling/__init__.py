"""Labels that are written into a store before a training: a teacher's, or a source's where the image shows it."""

from .free_mask import filtered, free_mask, hardness_scores
from .label_store import Labelling, label_store
from .settings import LabellingSettings, labelling_of

__all__ = [
    'Labelling',
    'LabellingSettings',
    'filtered',
    'free_mask',
    'hardness_scores',
    'label_store',
    'labelling_of',
]
