"""What a picture is called: captions made, written, read and looked up."""

from .caption_file import CaptionFile
from .captioning import CaptionSummary, ImageSet, caption_images
from .lookup import captions_of, read_captions
from .sources import ClassCaptions, EmptyCaptions, FileCaptions, ModelCaptions

__all__ = [
    'CaptionFile',
    'CaptionSummary',
    'ClassCaptions',
    'EmptyCaptions',
    'FileCaptions',
    'ImageSet',
    'ModelCaptions',
    'caption_images',
    'captions_of',
    'read_captions',
]
