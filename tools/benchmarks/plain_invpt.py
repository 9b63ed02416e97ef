"""InvPT written plainly, on the names of its published checkpoints: every formula as it stands, nothing saved.

It knows nothing of the package's modules. It is what memory is compared with, and what the tests compare numbers with.
Names of tasks are the published ones. B images; C width; h, w patches.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Reference:
    """A forward pass with the tensors of a checkpoint; in `training` batches are normalised by their own statistics."""

    def __init__(self, state: Mapping[str, Tensor], tasks: Iterable[str], training: bool = False) -> None:
        self.state, self.tasks, self.training = state, list(tasks), training

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f'{name}.weight'], self.state[f'{name}.bias'])

    def norm(self, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f'{name}.weight'], self.state[f'{name}.bias'], eps)

    def conv(self, name: str, x: Tensor, **settings: Any) -> Tensor:
        return F.conv2d(x, self.state[f'{name}.weight'], self.state.get(f'{name}.bias'), **settings)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        mean, var = (None if self.training else self.state[f'{name}.running_{kind}'] for kind in ('mean', 'var'))
        return F.batch_norm(x, mean, var, self.state[f'{name}.weight'], self.state[f'{name}.bias'], self.training)

    def resized(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(x, size, mode='bilinear', align_corners=False)

    def backbone(self, images: Tensor, heads: int, depth: int) -> list[Tensor]:
        """Images (B, 3, H, W) → four maps (B, C, h, w) at 1/16."""
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

    def decoder(self, maps: Sequence[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
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

    def embedded(self, i: int, j: int, x: Tensor, skip: Tensor) -> Tensor:
        """Stage i's map of task j before its block."""
        name = f'multi_task_decoder.invpt.invpt_stages.{i}.patch_embed.{j}.proj'
        x = self.resized(x, [2 * side for side in x.shape[-2:]])
        for number in (1, 4):
            x = self.conv(f'{name}.{number}', x, padding=2, dilation=2)
            x = self.batch_norm(f'{name}.{number + 1}', x).relu()
        return x + skip

    def block(self, i: int, maps: list[Tensor], previous: list[Tensor] | None) -> tuple[list[Tensor], list[Tensor]]:
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
