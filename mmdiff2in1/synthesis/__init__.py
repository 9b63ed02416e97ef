"""Data creation: walks a data set, creates an image per recipe, filters and stores it.

Reading a store imports no diffusion code.
"""

from .checks import check_plan, describe, others_of
from .conditions import ConditionPictures, ConditionSettings
from .filters import contrast, rejection, score, source_distance
from .from_config import Job, job_of, prepare, run_job, synthesize_from_config
from .label_maps import LabelMaps
from .plan import Source, creation_size, make_plan
from .recipe import Condition, SampleRecipe
from .run import batches_of, create_batch, synthesize, try_filters
from .settings import SynthesisSettings
from .sources import label_files, real_dataset_cfg
from .store import Damage, SampleStore

__all__ = [
    'Condition',
    'ConditionPictures',
    'ConditionSettings',
    'Job',
    'Damage',
    'LabelMaps',
    'SampleRecipe',
    'SampleStore',
    'Source',
    'SynthesisSettings',
    'batches_of',
    'check_plan',
    'contrast',
    'create_batch',
    'creation_size',
    'describe',
    'job_of',
    'make_plan',
    'others_of',
    'prepare',
    'label_files',
    'real_dataset_cfg',
    'rejection',
    'run_job',
    'score',
    'source_distance',
    'synthesize',
    'synthesize_from_config',
    'try_filters',
]
