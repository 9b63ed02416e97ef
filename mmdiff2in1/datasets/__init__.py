"""Real data sets, and the wrapper that adds synthetic samples to any of them."""

from .batch_mix import BatchMix
from .camvid import CamVidDataset
from .dense_map_dataset import DenseMapDataset
from .fixed_views import CachedViewsDataset
from .nyud_mt import NYUDMTDataset
from .nyuv2 import NYUv2DepthDataset, NYUv2NormalDataset
from .pascal_context_mt import PASCALContextMTDataset
from .samplers import MixedBatchSampler, MixedStream, StreamSampler
from .scannet import ScanNetNormalDataset
from .scenes_dataset import ScenesDataset
from .stream_keys import StreamKey
from .synthetic_sample_dataset import SyntheticSampleDataset
from .transforms import (
    ColourAugmentation,
    CutDepth,
    DenseRandomCrop,
    DenseRandomFlip,
    DenseResize,
    EdgesFromClasses,
    IgnoreWithoutPersons,
    LoadCaption,
    LoadClassAnnotation,
    LoadDenseAnnotation,
    LoadLabelMap,
    PackDenseInputs,
    RandomZoom,
    StrongColour,
)

__all__ = [
    'BatchMix',
    'CachedViewsDataset',
    'CamVidDataset',
    'ColourAugmentation',
    'CutDepth',
    'DenseMapDataset',
    'DenseRandomCrop',
    'DenseRandomFlip',
    'DenseResize',
    'EdgesFromClasses',
    'IgnoreWithoutPersons',
    'LoadCaption',
    'LoadClassAnnotation',
    'LoadDenseAnnotation',
    'LoadLabelMap',
    'MixedBatchSampler',
    'MixedStream',
    'NYUDMTDataset',
    'NYUv2DepthDataset',
    'NYUv2NormalDataset',
    'PASCALContextMTDataset',
    'PackDenseInputs',
    'RandomZoom',
    'ScanNetNormalDataset',
    'ScenesDataset',
    'StreamKey',
    'StreamSampler',
    'StrongColour',
    'SyntheticSampleDataset',
]
