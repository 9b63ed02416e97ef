"""One forward pass of the U-Net that returns its inner features and cross-attention maps as values.

z: latents (B, c, h, w); context (B, L, D) tokens; level l has spatial size (h / 2^l, w / 2^l), level 0 the finest.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from .taps import Block, ldm_blocks


@dataclass
class Features:
    """What one U-Net call showed.

    Attributes:
        taps: LDM block name → (B, C, h_l, w_l).
        maps: Level → cross-attention probabilities (B, L, h_l, w_l) in [0, 1], mean over heads and over the layers of
            that level; they sum to 1 over L.
        output: The U-Net's own output (B, c, h, w), or None where the pass ended at the last tap.
    """

    taps: dict[str, Tensor] = field(default_factory=dict)
    maps: dict[int, Tensor] = field(default_factory=dict)
    output: Tensor | None = None


def unet_features(
    unet: UNet2DConditionModel,
    z: Tensor,
    t: Tensor,
    context: Tensor,
    taps: Collection[str] = (),
    map_levels: Collection[int] = (),
    need_output: bool = False,
) -> Features:
    """Runs ``unet`` layer by layer and keeps what was asked for.

    Equal to ``unet(z, t, context).sample`` where ``need_output`` is set; otherwise it stops after the last tap. The
    cross-attention of the down and up blocks is read (VPD's choice); the middle block's is not.

    Args:
        unet: A U-Net with collecting attention processors (Stable Diffusion 1.x / 2.x layout).
        z: Latents (B, c, h, w); h and w must be multiples of 2^(levels - 1).
        t: Timesteps (B,), one per sample.
        context: Cross-attention tokens (B, L, D).
        taps: LDM block names, see :func:`ldm_blocks`.
        map_levels: Levels of which the attention maps are wanted.
        need_output: Whether the pass goes on to the U-Net's output.

    Raises:
        ValueError: A tap that this U-Net does not have, a level without cross-attention, or a latent of odd size.
    """
    blocks = ldm_blocks(unet)
    _check(unet, blocks, z, taps, map_levels)
    read = {name for name, block in blocks.items()
            if name in taps or (block.attends_at in map_levels and name != 'mid')}
    remaining = list(blocks) if need_output else list(blocks)[: max(map(list(blocks).index, read), default=-1) + 1]
    remaining.reverse()
    features, collected = Features(), {level: [] for level in map_levels}

    def attend(attention, x: Tensor, level: int | None = None) -> Tensor:
        if attention is None:
            return x
        collector: list[Tensor] | None = [] if level in collected else None
        kwargs = {'collector': collector}
        out = attention(x, encoder_hidden_states=context, cross_attention_kwargs=kwargs, return_dict=False)[0]
        if collector is not None:
            collected[level] += [p.transpose(1, 2).unflatten(-1, x.shape[-2:]) for p in collector]
        return out

    def visit(x: Tensor) -> Tensor:
        name = remaining.pop()
        if name in taps:
            features.taps[name] = x
        return x

    temb = unet.time_embedding(unet.get_time_embed(sample=z, timestep=t))
    x = visit(unet.conv_in(z))
    skips = [x]
    for level, down in enumerate(unet.down_blocks):
        for resnet, attention in _layers(down):
            if not remaining:
                return _finish(features, collected)
            x = visit(attend(attention, resnet(x, temb), level))
            skips.append(x)
        if down.downsamplers and remaining:
            x = visit(down.downsamplers[0](x))
            skips.append(x)
    if remaining:
        mid = unet.mid_block
        x = mid.resnets[0](x, temb)
        for attention, resnet in zip(mid.attentions, mid.resnets[1:], strict=True):
            x = resnet(attend(attention, x), temb)
        x = visit(x)
    for i, up in enumerate(unet.up_blocks):
        for j, (resnet, attention) in enumerate(_layers(up)):
            if not remaining:
                return _finish(features, collected)
            x = attend(attention, resnet(torch.cat([x, skips.pop()], 1), temb), len(unet.up_blocks) - 1 - i)
            if up.upsamplers and j == len(up.resnets) - 1:
                x = up.upsamplers[0](x)
            x = visit(x)
    if need_output:
        features.output = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
    return _finish(features, collected)


def _layers(block) -> list[tuple]:
    """(residual layer, attention or None) pairs of a down or up block."""
    attentions = getattr(block, 'attentions', [None] * len(block.resnets))
    return list(zip(block.resnets, attentions, strict=True))


def _finish(features: Features, collected: dict[int, list[Tensor]]) -> Features:
    features.maps = {level: torch.stack(maps).mean(0) for level, maps in collected.items()}
    return features


def _check(unet, blocks: dict[str, Block], z: Tensor, taps: Collection[str], map_levels: Collection[int]) -> None:
    unknown = [name for name in taps if name not in blocks]
    if unknown:
        raise ValueError(f'unknown taps {unknown}; this U-Net has {", ".join(blocks)}')
    attended = {block.attends_at for block in blocks.values() if block.name != 'mid'} - {None}
    if set(map_levels) - attended:
        raise ValueError(f'attention maps of levels {sorted(map_levels)} asked for; this U-Net has {sorted(attended)}')
    multiple = 2 ** (len(unet.config.block_out_channels) - 1)
    if z.shape[-2] % multiple or z.shape[-1] % multiple:
        raise ValueError(f'latent of {tuple(z.shape[-2:])}: height and width must be multiples of {multiple}')
