"""Real data sets, and the wrapper that adds synthetic samples to any of them."""

from .batch_mix import BatchMix
from .camvid import CamVidDataset
from .load_caption import LoadCaption
from .randomness import derived_randomness, derived_seed, seed_all
from .samplers import MixedBatchSampler, MixedStream, StreamSampler
from .scenes_dataset import ScenesDataset
from .stream_keys import StreamKey
from .synthetic_sample_dataset import SyntheticSampleDataset

__all__ = [
    'BatchMix',
    'CamVidDataset',
    'LoadCaption',
    'MixedBatchSampler',
    'MixedStream',
    'ScenesDataset',
    'StreamKey',
    'StreamSampler',
    'SyntheticSampleDataset',
    'derived_randomness',
    'derived_seed',
    'seed_all',
]
