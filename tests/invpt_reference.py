"""InvPT written out on the names of its published checkpoints, plainly: every formula as it stands, nothing saved.

It knows nothing of our modules, and is what our memory is compared with. Names of tasks are the published ones.
"""

import math

import torch
import torch.nn.functional as F

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


class Reference:
    """A forward pass with the tensors of a checkpoint; in `training` batches are normalised by their own statistics."""

    def __init__(self, state, tasks, training=False):
        self.state, self.tasks, self.training = state, list(tasks), training

    def linear(self, name, x):
        return F.linear(x, self.state[f'{name}.weight'], self.state[f'{name}.bias'])

    def norm(self, name, x, eps=1e-5):
        return F.layer_norm(x, x.shape[-1:], self.state[f'{name}.weight'], self.state[f'{name}.bias'], eps)

    def conv(self, name, x, **settings):
        return F.conv2d(x, self.state[f'{name}.weight'], self.state.get(f'{name}.bias'), **settings)

    def batch_norm(self, name, x):
        mean, var = (None if self.training else self.state[f'{name}.running_{kind}'] for kind in ('mean', 'var'))
        return F.batch_norm(x, mean, var, self.state[f'{name}.weight'], self.state[f'{name}.bias'], self.training)

    def resized(self, x, size):
        return F.interpolate(x, size, mode='bilinear', align_corners=False)

    def backbone(self, images, heads, depth):
        """Four maps at 1/16."""
        x = self.conv(
            'backbone.patch_embed.proj', images, stride=self.state['backbone.patch_embed.proj.weight'].shape[-1]
        )
        B, C, h, w = x.shape
        x = torch.cat([self.state['backbone.cls_token'].expand(B, -1, -1), x.flatten(2).transpose(1, 2)], 1)
        x = x + self.state['backbone.pos_embed']
        maps = []
        for i in range(depth):
            name = f'backbone.blocks.{i}'
            qkv = self.linear(f'{name}.attn.qkv', self.norm(f'{name}.norm1', x, 1e-6))
            q, k, v = qkv.reshape(B, -1, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-2, -1) * (C // heads) ** -0.5).softmax(-1)
            x = x + self.linear(f'{name}.attn.proj', (weights @ v).transpose(1, 2).reshape(B, -1, C))
            hidden = F.gelu(self.linear(f'{name}.mlp.fc1', self.norm(f'{name}.norm2', x, 1e-6)))
            x = x + self.linear(f'{name}.mlp.fc2', hidden)
            if (i + 1) % (depth // 4) == 0:
                out = self.norm('backbone.norm', x, 1e-6) if i + 1 == depth else x
                maps.append(out[:, 1:].transpose(1, 2).reshape(B, C, h, w))
        return maps

    def decoder(self, maps):
        """Task → (prediction at 1/4, preliminary prediction at 1/32), both raw."""
        top = 'multi_task_decoder'
        scale = f'{top}.scale_embed'
        skip2 = F.conv_transpose2d(
            maps[0], self.state[f'{scale}.0.weight'], self.state[f'{scale}.0.bias'], 2, 1, output_padding=1
        )
        skips = [None, self.conv(f'{scale}.1', maps[1], padding=1), skip2]
        h, w = (side // 2 for side in maps[3].shape[-2:])
        last = self.resized(maps[3], (h, w))
        x, preliminary = [], {}
        for task in self.tasks:
            feature = last
            for i in (0, 1):
                name = f'{top}.preliminary_decoder.{task}.{i}'
                feature = self.batch_norm(f'{name}.bn1', self.conv(f'{name}.conv', feature, padding=1)).relu()
            preliminary[task] = self.conv(f'{top}.intermediate_head.{task}', feature)
            x.append(self.conv(f'{top}.invpt.mix_proj.{task}.0', torch.cat([feature, preliminary[task]], 1)))
        summed, scores = dict.fromkeys(self.tasks, 0), None
        for i in range(3):
            if i:
                x = [self.embedded(i, j, each, skips[i]) for j, each in enumerate(x)]
            x, scores = self.block(i, x, scores)
            joint = torch.cat(x, 1).permute(0, 2, 3, 1)
            parts = self.norm(f'{top}.invpt.norm_mts.{i}', joint).permute(0, 3, 1, 2).chunk(len(self.tasks), 1)
            for j, (task, part) in enumerate(zip(self.tasks, parts, strict=True)):
                if i:
                    part = self.conv(f'{top}.invpt.redu_chan.{i}.{j}', part)
                summed[task] = summed[task] + self.resized(part, (8 * h, 8 * w))
        found = {}
        for task in self.tasks:
            name = f'{top}.invpt.mt_proj.{task}'
            feature = self.batch_norm(f'{name}.1', self.conv(f'{name}.0', summed[task], padding=1)).relu()
            found[task] = self.conv(f'heads.{task}.linear_pred', feature), preliminary[task]
        return found

    def embedded(self, i, j, x, skip):
        """Stage i's map of task j before its block."""
        name = f'multi_task_decoder.invpt.invpt_stages.{i}.patch_embed.{j}.proj'
        x = self.resized(x, [2 * side for side in x.shape[-2:]])
        for number in (1, 4):
            x = self.conv(f'{name}.{number}', x, padding=2, dilation=2)
            x = self.batch_norm(f'{name}.{number + 1}', x).relu()
        return x + skip

    def block(self, i, maps, previous):
        """Maps of all tasks (B, C, h, w) → the same, and the scores, (B, 2, queries, keys) for each task's queries."""
        name = f'multi_task_decoder.invpt.invpt_stages.{i}.blocks.0'
        B, C, h, w = maps[0].shape
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1)
        normed = self.norm(f'{name}.norm1', tokens).chunk(len(maps), 1)
        normed = [x.transpose(1, 2).reshape(B, C, h, w) for x in normed]
        pooled = [F.avg_pool2d(x, 2 ** (i + 1), ceil_mode=True).flatten(2).transpose(1, 2) for x in normed]
        keys = self.linear(f'{name}.attn.proj_k', torch.cat(pooled, 1))
        values = self.linear(f'{name}.attn.proj_v', torch.cat(pooled, 1))
        read, scores = [], []
        for j, x in enumerate(normed):
            q = self.conv(f'{name}.attn.conv_proj_q.{j}.conv', x, stride=2, padding=1, groups=C)
            q = self.batch_norm(f'{name}.attn.conv_proj_q.{j}.bn', q)
            q = self.linear(f'{name}.attn.proj_q', q.flatten(2).transpose(1, 2))
            heads = [
                own @ other.transpose(1, 2) * C**-0.5
                for own, other in zip(q.chunk(2, -1), keys.chunk(2, -1), strict=True)
            ]
            own = torch.stack(heads, 1)  # (B, 2, queries, keys)
            if i:
                grids = previous[j].transpose(2, 3).reshape(B, -1, h // 4, w // 4)
                coarser = self.resized(grids, (h // 2, w // 2)).reshape(B, 2, -1, h * w // 4).transpose(2, 3)
                own = self.conv(f'{name}.attn.fuse_attn', torch.cat([own, coarser], 1))
            scores.append(own)
            heads = [
                weights @ value for weights, value in zip(own.softmax(-1).unbind(1), values.chunk(2, -1), strict=True)
            ]
            out = self.linear(f'{name}.attn.proj', torch.cat(heads, -1))
            out = self.resized(out.transpose(1, 2).reshape(B, C, h // 2, w // 2), (h, w))
            read.append(out.flatten(2).transpose(1, 2))
        tokens = tokens + torch.cat(read, 1)
        hidden = F.gelu(self.linear(f'{name}.mlp.fc1', self.norm(f'{name}.norm2', tokens)))
        tokens = tokens + self.linear(f'{name}.mlp.fc2', hidden)
        return [x.transpose(1, 2).reshape(B, C, h, w) for x in tokens.chunk(len(maps), 1)], scores
