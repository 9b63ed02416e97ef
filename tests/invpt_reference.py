"""What a published checkpoint of InvPT holds, of any size, and `Reference`, the model written plainly on its names."""

import math
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / 'tools'))  # at the end: tools/test.py is not the standard library's

from benchmarks.plain_invpt import Reference  # noqa: E402, F401

ORDER = ('semseg', 'depth', 'human_parts', 'sal', 'normals', 'edge')
NYUD = dict(semseg=40, depth=1, normals=3, edge=1)
PASCAL = dict(semseg=21, human_parts=7, sal=2, normals=3, edge=1)
WITHOUT_EFFECT = ('scale_embed.2.', 'invpt.redu_chan.0.', 'invpt.norm_mt.', 'invpt_stages.0.blocks.0.attn.fuse_attn.')


def published_shapes(tasks, width=1024, depth=24, positions=1009, patch=16, channels=512, widths=(576, 288, 144)):
    """Name → shape in a published checkpoint, without the prefix `module.`; tasks: name → channels, in ORDER."""
    shapes = {}

    def layer(name, *shape, bias=True):
        shapes[f'{name}.weight'] = shape
        if bias:
            shapes[f'{name}.bias'] = shape[:1]

    def transposed(name, before, after):
        shapes[f'{name}.weight'], shapes[f'{name}.bias'] = (before, after, 3, 3), (after,)

    def batch_norm(name, own):
        for kind in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'{name}.{kind}'] = (own,)
        shapes[f'{name}.num_batches_tracked'] = ()

    shapes['backbone.cls_token'], shapes['backbone.pos_embed'] = (1, 1, width), (1, positions, width)
    layer('backbone.patch_embed.proj', width, 3, patch, patch)
    for i in range(depth):
        block = f'backbone.blocks.{i}'
        layer(f'{block}.norm1', width)
        layer(f'{block}.attn.qkv', 3 * width, width)
        layer(f'{block}.attn.proj', width, width)
        layer(f'{block}.norm2', width)
        layer(f'{block}.mlp.fc1', 4 * width, width)
        layer(f'{block}.mlp.fc2', width, 4 * width)
    layer('backbone.norm', width)
    top = 'multi_task_decoder'
    transposed(f'{top}.scale_embed.0', width, widths[2])
    layer(f'{top}.scale_embed.1', widths[1], width, 3, 3)
    layer(f'{top}.scale_embed.2', widths[0], width, 3, 3)
    layer(f'{top}.invpt.norm_mt', len(tasks) * widths[2])
    for task, own in tasks.items():
        layer(f'{top}.intermediate_head.{task}', own, channels, 1, 1)
        for i, after in enumerate((width, channels)):
            layer(f'{top}.preliminary_decoder.{task}.{i}.conv', after, width, 3, 3, bias=False)
            batch_norm(f'{top}.preliminary_decoder.{task}.{i}.bn1', after)
        layer(f'{top}.invpt.mix_proj.{task}.0', widths[0], channels + own, 1, 1)
        layer(f'{top}.invpt.mt_proj.{task}.0', widths[0], widths[0], 3, 3)
        batch_norm(f'{top}.invpt.mt_proj.{task}.1', widths[0])
        layer(f'heads.{task}.linear_pred', own, widths[0], 1, 1)
    for i, own in enumerate(widths):
        layer(f'{top}.invpt.norm_mts.{i}', len(tasks) * own)
        stage = f'{top}.invpt.invpt_stages.{i}'
        block = f'{stage}.blocks.0'
        layer(f'{block}.norm1', own)
        layer(f'{block}.norm2', own)
        layer(f'{block}.mlp.fc1', 4 * own, own)
        layer(f'{block}.mlp.fc2', own, 4 * own)
        for part in ('proj_q', 'proj_k', 'proj_v', 'proj'):
            layer(f'{block}.attn.{part}', own, own)
        layer(f'{block}.attn.fuse_attn', 2, 4, 1, 1)
        for j in range(len(tasks)):
            layer(f'{top}.invpt.redu_chan.{i}.{j}', widths[0], own, 1, 1)
            layer(f'{block}.attn.conv_proj_q.{j}.conv', own, 1, 3, 3, bias=False)
            batch_norm(f'{block}.attn.conv_proj_q.{j}.bn', own)
            if i:
                for number, before in ((1, widths[i - 1]), (4, own)):
                    layer(f'{stage}.patch_embed.{j}.proj.{number}', own, before, 3, 3, bias=False)
                    batch_norm(f'{stage}.patch_embed.{j}.proj.{number + 1}', own)
    return shapes


def published(tasks, seed=0, **sizes):
    """A tiny checkpoint, moved away from zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in published_shapes(tasks, **sizes).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith('num_batches_tracked'):
            state[name] = torch.tensor(12)
        elif name.endswith('running_var'):
            state[name] = 0.5 + noise.abs()
        elif len(shape) == 1:
            state[name] = 0.2 * noise + name.endswith('weight')
        elif name.endswith(('cls_token', 'pos_embed', 'fuse_attn.weight')):
            state[name] = 0.5 * noise
        else:
            state[name] = noise * math.prod(shape[1:]) ** -0.5
    return state
