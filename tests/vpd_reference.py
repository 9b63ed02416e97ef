"""VPD's features, written out: functions of tensors under the names of the original latent-diffusion code.

After VPD (Zhao et al., 2023, Sec. 3) and the model code of CompVis/stable-diffusion as published; independent of
diffusers and of the package. Slow and plain: one image size, no batching tricks.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def _below(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _numbers(state: State, prefix: str) -> list[int]:
    return sorted({int(name.removeprefix(prefix).split('.')[0]) for name in state if name.startswith(prefix)})


def _conv(state: State, name: str, x: Tensor, **options) -> Tensor:
    weight = state[f'{name}.weight']
    return F.conv2d(x, weight, state[f'{name}.bias'], padding=options.pop('padding', weight.shape[-1] // 2), **options)


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f'{name}.weight']
    return F.linear(x, weight.reshape(weight.shape[:2]), state.get(f'{name}.bias'))


def _group_norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    return F.group_norm(x, 32, state[f'{name}.weight'], state[f'{name}.bias'], eps)


# The image's way to its latent ----------------------------------------------------------------------------------


def latent_mode(state: State, images: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] → the mode of the posterior, not scaled."""
    s = _below(state, 'first_stage_model.')
    h = _conv(s, 'encoder.conv_in', images)
    for level in _numbers(s, 'encoder.down.'):
        for block in _numbers(s, f'encoder.down.{level}.block.'):
            h = _vae_block(s, f'encoder.down.{level}.block.{block}', h)
        if f'encoder.down.{level}.downsample.conv.weight' in s:
            h = _conv(s, f'encoder.down.{level}.downsample.conv', F.pad(h, (0, 1, 0, 1)), stride=2, padding=0)
    h = _vae_block(s, 'encoder.mid.block_1', h)
    h = _vae_attention(s, 'encoder.mid.attn_1', h)
    h = _vae_block(s, 'encoder.mid.block_2', h)
    h = _conv(s, 'encoder.conv_out', F.silu(_group_norm(s, 'encoder.norm_out', h, 1e-6)))
    return _conv(s, 'quant_conv', h).chunk(2, 1)[0]


def _vae_block(s: State, name: str, x: Tensor) -> Tensor:
    h = _conv(s, f'{name}.conv1', F.silu(_group_norm(s, f'{name}.norm1', x, 1e-6)))
    h = _conv(s, f'{name}.conv2', F.silu(_group_norm(s, f'{name}.norm2', h, 1e-6)))
    return h + (_conv(s, f'{name}.nin_shortcut', x) if f'{name}.nin_shortcut.weight' in s else x)


def _vae_attention(s: State, name: str, x: Tensor) -> Tensor:
    h = _group_norm(s, f'{name}.norm', x, 1e-6).flatten(2).transpose(1, 2)
    q, k, v = (_linear(s, f'{name}.{each}', h) for each in 'qkv')
    weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
    return x + _linear(s, f'{name}.proj_out', weights @ v).transpose(1, 2).view_as(x)


# The U-Net, with every cross-attention map ----------------------------------------------------------------------


class Unet:
    """Keeps what VPD looks at: outputs of the output blocks, and cross-attention by side ('down', 'mid', 'up').

    Args:
        state: Tensors below ``model.diffusion_model.``.
        heads: Channels → heads.
    """

    def __init__(self, state: State, heads):
        self.s, self.heads = _below(state, 'model.diffusion_model.'), heads
        self.maps: list[tuple[str, Tensor]] = []

    def __call__(self, x: Tensor, t: int, context: Tensor) -> list[Tensor]:
        """(B, c, h, w), timestep, (B, L, D) → what every output block puts out."""
        s, width = self.s, self.s['input_blocks.0.0.weight'].shape[0]
        angles = t * torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
        emb = torch.cat([angles.cos(), angles.sin()]).expand(len(x), -1)
        return self.under(x, _linear(s, 'time_embed.2', F.silu(_linear(s, 'time_embed.0', emb))), context)

    def under(self, x: Tensor, emb: Tensor, context: Tensor) -> list[Tensor]:
        """The same with the embedding (B, W) of a timestep."""
        s, self.emb = self.s, emb
        self.context, h, kept = context, x, []
        for i in _numbers(s, 'input_blocks.'):
            h = self._block(f'input_blocks.{i}', 'down', h)
            kept.append(h)
        h = self._block('middle_block', 'mid', h)
        outputs = []
        for i in _numbers(s, 'output_blocks.'):
            h = self._block(f'output_blocks.{i}', 'up', torch.cat([h, kept.pop()], 1))
            outputs.append(h)
        return outputs

    def _block(self, name: str, side: str, h: Tensor) -> Tensor:
        parts = _numbers(self.s, f'{name}.')
        for part in parts:
            own = f'{name}.{part}'
            if f'{own}.in_layers.0.weight' in self.s:
                h = self._resnet(own, h)
            elif f'{own}.norm.weight' in self.s:
                h = self._transformer(own, side, h)
            elif f'{own}.op.weight' in self.s:
                h = _conv(self.s, f'{own}.op', h, stride=2)
            elif f'{own}.conv.weight' in self.s:
                h = _conv(self.s, f'{own}.conv', F.interpolate(h, scale_factor=2, mode='nearest'))
            else:
                h = _conv(self.s, own, h)
        return h

    def _resnet(self, name: str, x: Tensor) -> Tensor:
        s = self.s
        h = _conv(s, f'{name}.in_layers.2', F.silu(_group_norm(s, f'{name}.in_layers.0', x, 1e-5)))
        h = h + _linear(s, f'{name}.emb_layers.1', F.silu(self.emb))[..., None, None]
        h = _conv(s, f'{name}.out_layers.3', F.silu(_group_norm(s, f'{name}.out_layers.0', h, 1e-5)))
        return h + (_conv(s, f'{name}.skip_connection', x) if f'{name}.skip_connection.weight' in s else x)

    def _transformer(self, name: str, side: str, x: Tensor) -> Tensor:
        s = self.s
        h = _group_norm(s, f'{name}.norm', x, 1e-6).flatten(2).transpose(1, 2)
        h = _linear(s, f'{name}.proj_in', h)
        for i in _numbers(s, f'{name}.transformer_blocks.'):
            own = f'{name}.transformer_blocks.{i}'
            normed = [self._layer_norm(f'{own}.norm1', h)]
            h = h + self._attention(f'{own}.attn1', normed[0], normed[0])[0]
            out, weights = self._attention(f'{own}.attn2', self._layer_norm(f'{own}.norm2', h), self.context)
            self.maps.append((side, weights.mean(1).transpose(1, 2).unflatten(-1, x.shape[-2:])))
            h = h + out
            value, gate = _linear(s, f'{own}.ff.net.0.proj', self._layer_norm(f'{own}.norm3', h)).chunk(2, -1)
            h = h + _linear(s, f'{own}.ff.net.2', value * F.gelu(gate))
        return x + _linear(s, f'{name}.proj_out', h).transpose(1, 2).view_as(x)

    def _layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.s[f'{name}.weight'], self.s[f'{name}.bias'], 1e-5)

    def _attention(self, name: str, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The result, and the weights (B, heads, positions, L)."""
        q, k, v = (
            _linear(self.s, f'{name}.to_{each}', y).unflatten(-1, (self.heads(x.shape[-1]), -1)).transpose(1, 2)
            for each, y in zip('qkv', (x, context, context), strict=True)
        )
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
        return _linear(self.s, f'{name}.to_out.0', (weights @ v).transpose(1, 2).flatten(2)), weights


def vpd_features(
    state: State, images: Tensor, tokens: Tensor, heads, taps: list[int], sides: list[int]
) -> list[Tensor]:
    """What VPD's neck is given, fine to coarse.

    Args:
        state: All of a file in the original layout.
        images: (B, 3, H, W) in [-1, 1].
        tokens: Class embeddings behind the text adapter, (K, D): c + γ · MLP(c).
        heads: Channels → heads.
        taps: Output blocks that are read, in their order; the last one is always read.
        sides: Widths of the grids at which maps are appended: the mean over up and down layers of that size.
    """
    unet = Unet(state, heads)
    outputs = unet(latent_mode(state, images), 1, tokens.expand(len(images), -1, -1))
    features = [outputs[i] for i in [*taps, len(outputs) - 1]]
    for level, feature in enumerate(features):
        here = [m for side, m in unet.maps if side != 'mid' and m.shape[-2:] == feature.shape[-2:]]
        if feature.shape[-1] in sides:
            features[level] = torch.cat([feature, torch.stack(here).mean(0)], 1)
    return features[::-1]
