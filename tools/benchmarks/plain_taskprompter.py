"""TaskPrompter written plainly, on the names of its published checkpoints: formula after formula, nothing saved on.

All raw scores of all tokens are held for every block, as its repository does; nothing of the package is used. It is
what memory is compared with, and what the tests compare numbers with.

B images; T tasks; C width; A heads, d = C / A; h × w patches, N = h · w; L = T + N tokens; n = s · s windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 16


@dataclass(frozen=True)
class Setup:
    """What the tensors do not tell. `taps`: after which blocks features are read; `windows`: s."""

    tasks: Sequence[str]
    heads: int
    taps: Sequence[int]
    windows: int


class Named:
    """Layers by their names in a checkpoint."""

    def __init__(self, state: Mapping[str, Tensor], training: bool) -> None:
        self.state, self.training = state, training

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f'{name}.weight'], self.state[f'{name}.bias'])

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f'{name}.weight'], self.state[f'{name}.bias'], 1e-6)

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight = self.state[f'{name}.weight']
        return F.conv2d(x, weight, self.state[f'{name}.bias'], padding=weight.shape[-1] // 2)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        mean, variance = (self.state[f'{name}.running_{kind}'] for kind in ('mean', 'var'))
        weight, bias = self.state[f'{name}.weight'], self.state[f'{name}.bias']
        return F.batch_norm(x, mean, variance, weight, bias, training=self.training)


def forward(
    state: Mapping[str, Tensor], images: Tensor, setup: Setup, training: bool = False
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Images (B, 3, H, W) → outputs (B, C_k, H, W) by their names of the tasks, and the raw scores of all blocks.

    Args:
        state: A checkpoint of theirs, without the prefix `module.`.
        images: Of the size that the checkpoint belongs to.
        setup: What its tensors do not tell.
        training: Statistics of the batch in the batch norms; without stochastic depth.
    """
    net = Named(state, training)
    maps, held = backbone(net, images, setup)
    return heads(net, maps, images.shape[2:]), held


def backbone(net: Named, images: Tensor, setup: Setup) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Images → a map (B, F, h, w) for each task, and the raw scores of all blocks."""
    state = net.state
    T, depth = (
        len(setup.tasks),
        1 + max(int(name.split('.')[2]) for name in state if name.startswith('backbone.blocks')),
    )
    patches = F.conv2d(images, *(state[f'backbone.patch_embed.proj.{kind}'] for kind in ('weight', 'bias')), PATCH)
    grid = patches.shape[2:]
    x = patches.flatten(2).transpose(1, 2) + state['backbone.pos_embed'][:, 1:]
    p = state['backbone.task_prompts'][None].repeat(len(images), 1, 1)
    held, levels = [], []
    for i in range(depth):
        block = f'backbone.blocks.{i}'
        n_x, n_p = net.layer_norm(f'{block}.norm1', x), net.layer_norm(f'{block}.norm1', p)
        raw, read = attention(net, f'{block}.attn', torch.cat([n_p, n_x], dim=1), setup.heads)
        held.append(raw)
        spread = net.linear(f'{block}.attn.token_trans', n_p)  # (B, T, N)
        x, p = x + read[:, T:], p + read[:, :T] + net.linear(f'{block}.attn.token_trans1', spread)
        x, p = x + mlp(net, block, x), p + mlp(net, block, p)
        if i + 1 in setup.taps:
            read = net.layer_norm('backbone.norm', x) if i + 1 == depth else x
            features = read.transpose(1, 2).reshape(len(x), -1, *grid)
            levels.append(level(net, setup, len(levels), features, raw, spread, n_x))
    return {task: sum(maps[t] for maps in levels) for t, task in enumerate(setup.tasks)}, held


def heads(net: Named, maps: Mapping[str, Tensor], size: Sequence[int]) -> dict[str, Tensor]:
    """Maps (B, F, h, w) → outputs (B, C_k, H, W)."""
    outputs = {}
    for task, y in maps.items():
        y = F.interpolate(y, scale_factor=4, mode='bilinear', align_corners=False)
        y = net.conv(f'heads.{task}.mt_proj.0', y)
        y = F.gelu(net.batch_norm(f'heads.{task}.mt_proj.1', y))
        y = net.conv(f'heads.{task}.linear_pred', y)
        outputs[task] = F.interpolate(y, size, mode='bilinear', align_corners=False)
    return outputs


def attention(net: Named, name: str, tokens: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Tokens (B, L, C) → raw scores (B, A, L, L) and what is read (B, L, C)."""
    B, L, C = tokens.shape
    qkv = net.linear(f'{name}.qkv', tokens).reshape(B, L, 3, heads, C // heads)
    q, k, v = (qkv[:, :, j].transpose(1, 2) for j in range(3))  # (B, A, L, d)
    raw = q @ k.transpose(2, 3)
    shares = (raw * (C // heads) ** -0.5).softmax(-1)
    return raw, net.linear(f'{name}.proj', (shares @ v).transpose(1, 2).reshape(B, L, C))


def mlp(net: Named, block: str, x: Tensor) -> Tensor:
    hidden = net.linear(f'{block}.mlp.fc1', net.layer_norm(f'{block}.norm2', x))
    return net.linear(f'{block}.mlp.fc2', F.gelu(hidden))


def level(
    net: Named, setup: Setup, i: int, features: Tensor, raw: Tensor, spread: Tensor, keys: Tensor
) -> list[Tensor]:
    """The features of all tasks at one depth, from the patches (B, C, h, w) and the scores of its block."""
    (B, C, h, w), T, s = features.shape, len(setup.tasks), setup.windows
    d, rows, columns = C // setup.heads, h // s, w // s
    found = []
    for t, task in enumerate(setup.tasks):
        maps = raw[:, :, t, T:].reshape(B, setup.heads, h, w)
        slices = [features[:, a * d : (a + 1) * d] for a in range(setup.heads)]
        spatial = torch.cat([own * maps[:, a : a + 1] for a, own in enumerate(slices)], dim=1) + features
        query, key = spread[:, t].reshape(B, 1, h, w), keys.transpose(1, 2).reshape(B, C, h, w)
        weighed = torch.zeros_like(features)
        for row in range(s):
            for column in range(s):
                window = (..., slice(row * rows, (row + 1) * rows), slice(column * columns, (column + 1) * columns))
                score = (query[window] * key[window]).sum((2, 3), keepdim=True)  # (B, C, 1, 1)
                weighed[window] = features[window] * score
        spatial = net.conv(f'backbone.fea_decode_spa.{i}.{task}.0', spatial)
        channel = net.conv(f'backbone.fea_decode_chan.{i}.{task}.0', weighed + features)
        fuse = f'backbone.fea_fuse.{i}.{task}'
        y = net.conv(f'{fuse}.1', net.conv(f'{fuse}.0', torch.cat([spatial, channel], dim=1)))
        found.append(net.conv(f'{fuse}.4', F.gelu(net.batch_norm(f'{fuse}.2', y))))
    if f'backbone.ctr_attn_conv.{i}.{setup.tasks[0]}.0.weight' not in net.state:
        return found
    mixed = []
    for t, task in enumerate(setup.tasks):
        mix = f'backbone.ctr_attn_conv.{i}.{task}'
        weights = net.conv(f'{mix}.2', F.gelu(net.conv(f'{mix}.0', raw[:, :, t : t + 1, :T])))  # (B, 1, 1, T)
        mixed.append(sum(weights[..., other : other + 1] * found[other] for other in range(T)))
    return mixed
