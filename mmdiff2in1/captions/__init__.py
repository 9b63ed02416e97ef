"""Captions of pictures: made, written, read and looked up."""

from .caption_file import CaptionFile
from .captioning import CaptionSummary, ImageSet, caption_images
from .classes import WrittenCaptions
from .listed import ListedCaptions
from .lookup import captions_of, read_captions
from .new_scenes import SceneCaptions, scene_captions
from .recombined import RecombinedCaptions, recombined
from .sources import ClassCaptions, EmptyCaptions, FileCaptions, ModelCaptions

__all__ = [
    'CaptionFile',
    'CaptionSummary',
    'ClassCaptions',
    'EmptyCaptions',
    'FileCaptions',
    'ImageSet',
    'ListedCaptions',
    'ModelCaptions',
    'RecombinedCaptions',
    'SceneCaptions',
    'WrittenCaptions',
    'caption_images',
    'captions_of',
    'read_captions',
    'recombined',
    'scene_captions',
]
