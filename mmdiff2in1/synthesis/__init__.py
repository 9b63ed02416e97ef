"""Data creation: walks a data set, creates an image per recipe, filters and stores it.

Reading a store imports no diffusion code.
"""

from .caption_file import CaptionFile
from .caption_sources import ClassCaptions, EmptyCaptions, FileCaptions, ModelCaptions
from .captioning import CaptionSummary, ImageSet, caption_images
from .captions import captions_of, read_captions
from .filters import contrast, rejection, score, source_distance
from .from_config import Job, SynthesisSettings, prepare, run_job, synthesize_from_config
from .plan import Source, creation_size, make_plan
from .recipe import Recipe
from .run import batches_of, check_plan, create_batch, describe, others_of, synthesize
from .sources import list_images, raw_ignore_value, real_dataset_cfg, source_name
from .store import Problem, SampleStore

__all__ = [
    'CaptionFile',
    'CaptionSummary',
    'ClassCaptions',
    'EmptyCaptions',
    'FileCaptions',
    'ImageSet',
    'Job',
    'ModelCaptions',
    'Problem',
    'Recipe',
    'SampleStore',
    'Source',
    'SynthesisSettings',
    'batches_of',
    'caption_images',
    'captions_of',
    'check_plan',
    'contrast',
    'create_batch',
    'creation_size',
    'describe',
    'list_images',
    'make_plan',
    'others_of',
    'prepare',
    'raw_ignore_value',
    'read_captions',
    'real_dataset_cfg',
    'rejection',
    'run_job',
    'score',
    'source_distance',
    'source_name',
    'synthesize',
    'synthesize_from_config',
]
