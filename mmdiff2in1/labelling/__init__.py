"""Labels of a teacher, written once beside the created images of a store."""

from .label_store import Labelling, label_store
from .settings import LabellingSettings, labelling_of

__all__ = ['Labelling', 'LabellingSettings', 'label_store', 'labelling_of']
