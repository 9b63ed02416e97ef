"""Tiny models of one task and of several, and samples for them. K classes; maps of SIZE."""

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmdiff2in1.models import SelfImprovingSegmentor

K, SIZE = 4, (16, 24)
TASKS = dict(
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=K),
    depth=dict(type='Depth', max_depth=10.0),
    normal=dict(type='SurfaceNormal'),
)
FCN = dict(
    type='FCNHead', in_channels=8, in_index=1, channels=8, num_convs=1, concat_input=False, dropout_ratio=0,
    norm_cfg=dict(type='BN'),
)  # fmt: skip


def head(name):
    if name == 'semantic_segmentation':
        return dict(FCN, num_classes=K)
    return dict(type='DenseTaskHead', task=TASKS[name], head=FCN)


def segmentor(*names):
    backbone = dict(
        type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, out_indices=(0, 1), num_stages=2,
        strides=(1, 2), dilations=(1, 1), norm_cfg=dict(type='BN'),
    )  # fmt: skip
    if names == ('semantic_segmentation',):
        return ConfigDict(
            type='EncoderDecoder', backbone=backbone, decode_head=head(*names), test_cfg=dict(mode='whole')
        )
    tasks = {name: TASKS[name] for name in names}
    one = head(names[0]) if len(names) == 1 else None
    heads = one or dict(type='TaskHeads', tasks=tasks, heads={name: head(name) for name in names})
    return ConfigDict(
        type='DenseEstimator', task=tasks, backbone=backbone, decode_head=heads, test_cfg=dict(mode='whole')
    )


def wrapped(*names, **settings):
    torch.manual_seed(0)
    return SelfImprovingSegmentor(segmentor(*names), **settings).train()


def values(name):
    generator = torch.Generator().manual_seed(3)
    if name == 'semantic_segmentation':
        return torch.randint(K, (1, *SIZE), generator=generator)
    if name == 'depth':
        return 1 + 5 * torch.rand(1, *SIZE, generator=generator)
    return F.normalize(torch.randn(3, *SIZE, generator=generator), dim=0)


FIELDS = dict(semantic_segmentation='gt_sem_seg', depth='gt_depth_map', normal='gt_normal_map')


def samples(*names, synthetic=True):
    found = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE, synthetic=synthetic))
        sample.set_data({FIELDS[name]: PixelData(data=values(name)) for name in names})
        found.append(sample)
    return found


def images():
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def loss_of(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)
