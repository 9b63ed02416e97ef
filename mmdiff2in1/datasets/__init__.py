"""Real data sets, and the wrapper that adds synthetic samples to any of them."""

from .batch_mix import BatchMix
from .camvid import CamVidDataset
from .dense_map_dataset import DenseMapDataset
from .nyuv2 import NYUv2DepthDataset, NYUv2NormalDataset
from .samplers import MixedBatchSampler, MixedStream, StreamSampler
from .scannet import ScanNetNormalDataset
from .scenes_dataset import ScenesDataset
from .stream_keys import StreamKey
from .synthetic_sample_dataset import SyntheticSampleDataset
from .transforms import (
    ColourAugmentation,
    CutDepth,
    DenseRandomFlip,
    DenseResize,
    LoadCaption,
    LoadClassAnnotation,
    LoadDenseAnnotation,
    PackDenseInputs,
    StrongColour,
)

__all__ = [
    'BatchMix',
    'CamVidDataset',
    'ColourAugmentation',
    'CutDepth',
    'DenseMapDataset',
    'DenseRandomFlip',
    'DenseResize',
    'LoadCaption',
    'LoadClassAnnotation',
    'LoadDenseAnnotation',
    'MixedBatchSampler',
    'MixedStream',
    'NYUv2DepthDataset',
    'NYUv2NormalDataset',
    'PackDenseInputs',
    'ScanNetNormalDataset',
    'ScenesDataset',
    'StreamKey',
    'StreamSampler',
    'StrongColour',
    'SyntheticSampleDataset',
]
