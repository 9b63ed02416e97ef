"""A tiny InvPT of any of the six tasks, and samples for it."""

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmdiff2in1.tasks import TaskSet

K = 5
TASKS = dict(
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=K),
    depth=dict(type='Depth'),
    human_parts=dict(type='HumanParts'),
    saliency=dict(type='Saliency'),
    normal=dict(type='SurfaceNormal'),
    edge=dict(type='Edges'),
)
THEIRS = dict(semseg=K, depth=1, human_parts=7, sal=2, normals=3, edge=1)
SIZES = dict(width=64, depth=4, patch=16, channels=10, widths=(12, 8, 4))
"""As `invpt_reference.published` takes them; without positions."""


def head(*names, **settings):
    """The config of a head on four maps of 64 channels."""
    return dict(
        type='InvPTHead', tasks={name: TASKS[name] for name in names or TASKS}, in_channels=[64] * 3,
        channels=SIZES['channels'], widths=SIZES['widths'],
    ) | settings  # fmt: skip


def segmentor(*names, size=(64, 128), **settings):
    tasks = {name: TASKS[name] for name in names or TASKS}
    return ConfigDict(
        type='DenseEstimator',
        task=tasks,
        backbone=dict(type='ViTLevels', img_size=size, width=64, depth=4, heads=1, drop_path_rate=0.0),
        decode_head=head(*tasks, **settings),
        test_cfg=dict(mode='whole'),
    )


def maps(size=(64, 128), channels=64, count=4, batch=2):
    """Random maps of a backbone at 1/16."""
    generator = torch.Generator().manual_seed(7)
    grid = [-(-side // 16) for side in size]
    return tuple(torch.randn(batch, channels, *grid, generator=generator) for _ in range(count))


def target(task, size, generator):
    """(c, H, W), a tenth of it unknown."""
    if task.name == 'depth':
        values = 1 + 5 * torch.rand(1, *size, generator=generator)
    elif task.name == 'normal':
        values = F.normalize(torch.randn(3, *size, generator=generator), dim=0)
    elif task.name == 'edge':
        values = (torch.rand(1, *size, generator=generator) < 0.1).float()
    else:
        values = torch.randint(task.num_classes or task.channels, (1, *size), generator=generator)
    unknown = torch.rand(1, 1, *size, generator=generator) < 0.1
    return task.invalidate(values[None].to(task.target_dtype), unknown)[0]


def samples(*names, size=(64, 128), batch=2):
    generator, found = torch.Generator().manual_seed(3), []
    tasks = TaskSet({name: TASKS[name] for name in names or TASKS})
    for _ in range(batch):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        for task in tasks.values():
            sample.set_data({task.field: PixelData(data=target(task, size, generator))})
        found.append(sample)
    return found
