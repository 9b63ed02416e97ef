"""A tiny TaskPrompter of any of the six tasks, samples for it, and what a published file of any size holds."""

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmdiff2in1.tasks import TaskSet

sys.path.append(str(Path(__file__).parents[1] / 'tools'))  # at the end: tools/test.py is not the standard library's

SIZE, K = (64, 96), 5
TASKS = dict(
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=K),
    depth=dict(type='Depth'),
    human_parts=dict(type='HumanParts'),
    saliency=dict(type='Saliency'),
    normal=dict(type='SurfaceNormal'),
    edge=dict(type='Edges'),
)
OUTPUTS = dict(semseg=K, depth=1, human_parts=7, sal=2, normals=3, edge=1)
"""Their names of the tasks → channels."""
TINY = dict(
    img_size=SIZE,
    width=16,
    depth=4,
    heads=2,
    taps=(2, 4),
    embed_channels=6,
    channels=10,
    channel_windows=2,
    reweighted=True,
    drop_path_rate=0.0,
)


def segmentor(*names, **settings):
    tasks = {name: TASKS[name] for name in names or TASKS}
    backbone = dict(type='TaskPrompterViT', tasks=tasks, **TINY | settings)
    return ConfigDict(
        type='DenseEstimator',
        task=tasks,
        backbone=backbone,
        decode_head=dict(type='TaskPrompterHead', tasks=tasks, channels=backbone['channels']),
        test_cfg=dict(mode='whole'),
    )


def stirred(model, seed=1):
    """The model with weights and statistics far from those of its initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                noise = 0.2 * torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise.abs() if name.endswith('running_var') else noise)
    return model


def images(size=SIZE, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def target(task, size, generator):
    """(c, H, W), a tenth of it unknown."""
    if task.name == 'depth':
        values = 1 + 5 * torch.rand(1, *size, generator=generator)
    elif task.name == 'normal':
        values = F.normalize(torch.randn(3, *size, generator=generator), dim=0)
    elif task.name == 'edge':
        values = (torch.rand(1, *size, generator=generator) < 0.1).float()
    else:
        values = torch.randint(task.num_classes, (1, *size), generator=generator)
    unknown = torch.rand(1, 1, *size, generator=generator) < 0.1
    return task.invalidate(values[None].to(task.target_dtype), unknown)[0]


def samples(*names, size=SIZE, batch=2):
    generator, found = torch.Generator().manual_seed(3), []
    for _ in range(batch):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        for task in TaskSet({name: TASKS[name] for name in names or TASKS}).values():
            sample.set_data({task.field: PixelData(data=target(task, size, generator))})
        found.append(sample)
    return found


def published_shapes(outputs, width, depth, positions, embed, channels, levels=4, heads=None):
    """Name → shape in a published checkpoint; `heads` of the attention where tasks are mixed."""
    shapes = {'backbone.pos_embed': (1, 1 + positions, width), 'backbone.task_prompts': (len(outputs), width)}

    def layer(name, inside, outside, *kernel):
        shapes[f'{name}.weight'], shapes[f'{name}.bias'] = (outside, inside, *kernel), (outside,)

    def norm(name, count, statistics=False):
        shapes[f'{name}.weight'] = shapes[f'{name}.bias'] = (count,)
        if statistics:
            shapes[f'{name}.running_mean'] = shapes[f'{name}.running_var'] = (count,)
            shapes[f'{name}.num_batches_tracked'] = ()

    layer('backbone.patch_embed.proj', 3, width, 16, 16)
    for i in range(depth):
        block = f'backbone.blocks.{i}'
        norm(f'{block}.norm1', width)
        norm(f'{block}.norm2', width)
        layer(f'{block}.attn.qkv', width, 3 * width)
        layer(f'{block}.attn.proj', width, width)
        layer(f'{block}.attn.token_trans', width, positions)
        layer(f'{block}.attn.token_trans1', positions, width)
        layer(f'{block}.mlp.fc1', width, 4 * width)
        layer(f'{block}.mlp.fc2', 4 * width, width)
    norm('backbone.norm', width)
    for task, outside in outputs.items():
        for i in range(levels):
            fuse = f'backbone.fea_fuse.{i}.{task}'
            layer(f'{fuse}.0', 2 * embed, channels, 1, 1)
            layer(f'{fuse}.1', channels, channels, 3, 3)
            norm(f'{fuse}.2', channels, statistics=True)
            layer(f'{fuse}.4', channels, channels, 1, 1)
            layer(f'backbone.fea_decode_spa.{i}.{task}.0', width, embed, 1, 1)
            layer(f'backbone.fea_decode_chan.{i}.{task}.0', width, embed, 1, 1)
            if heads:
                layer(f'backbone.ctr_attn_conv.{i}.{task}.0', heads, heads, 1, 1)
                layer(f'backbone.ctr_attn_conv.{i}.{task}.2', heads, 1, 1, 1)
        layer(f'heads.{task}.mt_proj.0', channels, channels, 3, 3)
        norm(f'heads.{task}.mt_proj.1', channels, statistics=True)
        layer(f'heads.{task}.linear_pred', channels, outside, 1, 1)
    return shapes


def published(outputs=None, seed=0, width=128, heads=None):
    """A tiny checkpoint, moved away from zeros and ones, with heads of 64 channels: 6 × 6 patches."""
    generator, state = torch.Generator().manual_seed(seed), {}
    shapes = published_shapes(outputs or OUTPUTS, width, 4, 36, 6, 10, levels=2, heads=heads)
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith('num_batches_tracked'):
            state[name] = torch.tensor(12)
        elif name.endswith('running_var'):
            state[name] = 0.5 + noise.abs()
        elif len(shape) == 1:
            state[name] = 0.2 * noise + ('norm' in name and name.endswith('weight'))
        else:
            state[name] = noise * math.prod(shape[1:]) ** -0.5
    return state
