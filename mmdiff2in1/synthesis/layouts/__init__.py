"""New layouts with true labels: one file, one idea; a layout is registered and chosen by its name."""

from .base import Composed, Composer, LabelledSample, LabelledSamples, Layout
from .object_paste import ObjectPaste

__all__ = ['Composed', 'Composer', 'LabelledSample', 'LabelledSamples', 'Layout', 'ObjectPaste']
