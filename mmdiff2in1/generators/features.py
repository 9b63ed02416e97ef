"""One forward pass of the U-Net that returns its inner features and cross-attention maps as values.

z: latents (B, c, h, w); context (B, L, D) tokens; level l has spatial size (h / 2^l, w / 2^l), level 0 the finest.
"""

from collections.abc import Collection, Sequence

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .interfaces import Features
from .taps import last_read, layer_pairs, ldm_blocks


def unet_features(
    unet: UNet2DConditionModel,
    z: Tensor,
    t: Tensor,
    context: Tensor,
    taps: Collection[str] = (),
    map_levels: Collection[int] = (),
    need_output: bool = False,
    down_block_additional_residuals: Sequence[Tensor] | None = None,
    mid_block_additional_residual: Tensor | None = None,
) -> Features:
    """Runs ``unet`` layer by layer and keeps what was asked for.

    Equal to ``unet(z, t, context).sample`` where ``need_output`` is set; otherwise it stops after the last tap. The
    cross-attention of the down and up blocks is read (VPD's choice); the middle block's is not. After
    ``unet.enable_gradient_checkpointing()`` the backward pass computes each layer anew instead of keeping its inside.

    Args:
        unet: A U-Net with collecting attention processors (Stable Diffusion 1.x / 2.x layout).
        z: Latents (B, c, h, w); h and w must be multiples of 2^(levels - 1).
        t: Timesteps (B,), one per sample; or in their place what the U-Net makes of them, embeddings (B, W).
        context: Cross-attention tokens (B, L, D).
        taps: LDM block names, see :func:`ldm_blocks`.
        map_levels: Levels of which the attention maps are wanted.
        need_output: Whether the pass goes on to the U-Net's output.
        down_block_additional_residuals, mid_block_additional_residual: What a ControlNet adds to the skips and to the
            middle block, see :func:`.controlnet.residuals`; taps of the encoder are read before.

    Raises:
        ValueError: A tap that this U-Net does not have, a level without cross-attention, nothing to return, or a
            latent of odd size.
    """
    blocks = ldm_blocks(unet)
    check_wanted(unet, taps, map_levels)
    _check_size(unet, z)
    if not (taps or map_levels or need_output):
        raise ValueError('no features were asked for: name taps or map_levels, or set need_output')
    remaining = list(blocks)[::-1]
    if not need_output:
        del remaining[: remaining.index(last_read(blocks, taps, map_levels))]
    features, collected = Features(), {level: [] for level in map_levels}

    recompute = torch.is_grad_enabled() and unet.is_gradient_checkpointing

    def layer(resnet: nn.Module, attention: nn.Module | None, inputs: tuple[Tensor, ...], level: int | None):
        """Residual layer (over the channels of all inputs), then attention; keeps its maps if ``level`` is wanted."""
        wanted = level in collected and attention is not None

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            # Maps are handed out as values: this runs a second time where activations are recomputed.
            maps: list[Tensor] | None = [] if wanted else None
            x = resnet(inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1), temb)
            if attention is not None:
                kwargs = {'collector': maps}
                x = attention(x, encoder_hidden_states=context, cross_attention_kwargs=kwargs, return_dict=False)[0]
            return x, *(maps or ())

        x, *maps = checkpoint(run, *inputs, use_reentrant=False) if recompute else run(*inputs)
        if wanted:
            collected[level] += [p.transpose(1, 2).unflatten(-1, x.shape[-2:]) for p in maps]
        return x

    def visit(x: Tensor) -> Tensor:
        name = remaining.pop()
        if name in taps:
            features.taps[name] = x
        return x

    temb = t if t.ndim == 2 else unet.time_embedding(unet.get_time_embed(sample=z, timestep=t))
    x = visit(unet.conv_in(z))
    skips = [x]
    for level, down in enumerate(unet.down_blocks):
        for resnet, attention in layer_pairs(down):
            if not remaining:
                return _finish(features, collected)
            x = visit(layer(resnet, attention, (x,), level))
            skips.append(x)
        if down.downsamplers and remaining:
            x = visit(down.downsamplers[0](x))
            skips.append(x)
    if remaining:
        mid = unet.mid_block
        for resnet, attention in zip(mid.resnets, [*mid.attentions, None], strict=True):
            x = layer(resnet, attention, (x,), None)
        if mid_block_additional_residual is not None:
            x = x + mid_block_additional_residual
        x = visit(x)
    if down_block_additional_residuals is not None:
        skips = [skip + added for skip, added in zip(skips, down_block_additional_residuals, strict=True)]
    for i, up in enumerate(unet.up_blocks):
        for j, (resnet, attention) in enumerate(layer_pairs(up)):
            if not remaining:
                return _finish(features, collected)
            x = layer(resnet, attention, (x, skips.pop()), len(unet.up_blocks) - 1 - i)
            if up.upsamplers and j == len(up.resnets) - 1:
                x = up.upsamplers[0](x)
            x = visit(x)
    if need_output:
        features.output = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
    return _finish(features, collected)


def _finish(features: Features, collected: dict[int, list[Tensor]]) -> Features:
    features.maps = {level: torch.stack(maps).mean(0) for level, maps in collected.items()}
    return features


def check_wanted(unet: UNet2DConditionModel, taps: Collection[str], map_levels: Collection[int]) -> None:
    """Raises ValueError for taps that ``unet`` does not have and for levels at which nothing attends to the tokens."""
    blocks = ldm_blocks(unet)
    unknown = [name for name in taps if name not in blocks]
    if unknown:
        raise ValueError(f'unknown taps {unknown}; this U-Net has {", ".join(blocks)}')
    attended = {block.attends_at for block in blocks.values() if block.name != 'mid'} - {None}
    if set(map_levels) - attended:
        raise ValueError(f'attention maps of levels {sorted(map_levels)} asked for; this U-Net has {sorted(attended)}')


def _check_size(unet: UNet2DConditionModel, z: Tensor) -> None:
    multiple = 2 ** (len(unet.config.block_out_channels) - 1)
    if z.shape[-2] % multiple or z.shape[-1] % multiple:
        raise ValueError(f'latent of {tuple(z.shape[-2:])}: height and width must be multiples of {multiple}')
