"""Where the U-Net is read: its layers under the names of the original LDM code, ``in.0`` …, ``mid``, ``out.0`` ….

LDM counts one block per residual layer (with its attention) and one per downsampling convolution; an upsampling
convolution belongs to the last block of its level. Level 0 is the finest (the latent's own resolution).
"""

from collections.abc import Collection
from dataclasses import dataclass

from diffusers import UNet2DConditionModel
from torch import nn

from .interfaces import Tap


@dataclass(frozen=True)
class Block(Tap):
    """One LDM block, ``in.i``, ``mid`` or ``out.i``; level and channels are those of its output.

    Attributes:
        attends_at: Level at which it attends to the tokens (an upsampling comes after), or None.
    """

    attends_at: int | None


def ldm_blocks(unet: UNet2DConditionModel) -> dict[str, Block]:
    """Name → block for all taps of ``unet``, in the order in which the forward pass reaches them.

    For Stable Diffusion 1.x: ``in.0`` – ``in.11``, ``mid``, ``out.0`` – ``out.11``.
    """
    widths = unet.config.block_out_channels
    blocks = [Block('in.0', 0, widths[0], None)]
    for level, down in enumerate(unet.down_blocks):
        attends_at = level if hasattr(down, 'attentions') else None
        for _ in down.resnets:
            blocks.append(Block(f'in.{len(blocks)}', level, widths[level], attends_at))
        if down.downsamplers:
            blocks.append(Block(f'in.{len(blocks)}', level + 1, widths[level], None))
    blocks.append(Block('mid', len(widths) - 1, widths[-1], len(widths) - 1))
    first_out = len(blocks)
    for i, up in enumerate(unet.up_blocks):
        level = len(widths) - 1 - i
        attends_at = level if hasattr(up, 'attentions') else None
        for j in range(len(up.resnets)):
            upsampled = j == len(up.resnets) - 1 and bool(up.upsamplers)
            blocks.append(Block(f'out.{len(blocks) - first_out}', level - upsampled, widths[level], attends_at))
    return {block.name: block for block in blocks}


def vpd_taps(unet: UNet2DConditionModel) -> tuple[str, ...]:
    """The taps of VPD, coarse to fine: of each decoder level the layer before the last, of the finest the last.

    Stable Diffusion 1.x: ``out.1, out.4, out.7, out.11`` (channels 1280, 1280, 640, 320). These lie inside the up
    blocks: the block's own output has already been upsampled.
    """
    names, first = [], 0
    for i, up in enumerate(unet.up_blocks):
        depth = len(up.resnets)
        last = i == len(unet.up_blocks) - 1
        names.append(f'out.{first + (depth - 1 if last else max(depth - 2, 0))}')
        first += depth
    return tuple(names)


def last_read(blocks: dict[str, Block], taps: Collection[str], map_levels: Collection[int]) -> str:
    """The last block that has to run for these taps and maps."""
    return [b.name for b in blocks.values() if b.name in taps or (b.attends_at in map_levels and b.name != 'mid')][-1]


def freeze_unread(unet: UNet2DConditionModel, last_tap: str) -> None:
    """Takes the gradient from what lies behind the last tap: nothing reads it, so nothing would train it."""
    layers = _block_layers(unet)
    behind = list(layers)[list(layers).index(last_tap) + 1 :]
    for layer in (unet.conv_norm_out, unet.conv_out, *(layer for name in behind for layer in layers[name])):
        layer.requires_grad_(False)


def layer_pairs(block: nn.Module) -> list[tuple[nn.Module, nn.Module | None]]:
    """(residual layer, attention or None) pairs of a down or up block."""
    attentions = getattr(block, 'attentions', [None] * len(block.resnets))
    return list(zip(block.resnets, attentions, strict=True))


def _block_layers(unet: UNet2DConditionModel) -> dict[str, list[nn.Module]]:
    """Name → modules of the block; names and order as in :func:`ldm_blocks`."""
    down = [[unet.conv_in]]
    for block in unet.down_blocks:
        down += [[layer for layer in pair if layer is not None] for pair in layer_pairs(block)]
        down += [[layer] for layer in block.downsamplers or ()]
    up = []
    for block in unet.up_blocks:
        up += [[layer for layer in pair if layer is not None] for pair in layer_pairs(block)]
        up[-1] += block.upsamplers or ()
    return dict(zip(ldm_blocks(unet), [*down, [unet.mid_block], *up], strict=True))


_BLOCK_TYPES = {'DownBlock2D', 'CrossAttnDownBlock2D', 'UNetMidBlock2DCrossAttn', 'UpBlock2D', 'CrossAttnUpBlock2D'}
_FOREIGN = (
    'addition_embed_type', 'center_input_sample', 'class_embed_type', 'dual_cross_attention', 'encoder_hid_dim',
    'num_class_embeds', 'only_cross_attention', 'time_embedding_act_fn',
)  # fmt: skip
_FIXED = dict(downsample_padding=1, flip_sin_to_cos=True, freq_shift=0, mid_block_scale_factor=1)


def check_layout(unet: UNet2DConditionModel) -> None:
    """Makes sure that ``unet`` is what the names above describe.

    Raises:
        ValueError: It has blocks or inputs that the U-Nets of Stable Diffusion 1.x and 2.x do not have (as SDXL's).
    """
    config = unet.config
    blocks = {*config.down_block_types, str(config.mid_block_type), *config.up_block_types}
    foreign = sorted(blocks - _BLOCK_TYPES)
    foreign += [f'{name}={config[name]!r}' for name in _FOREIGN if config.get(name)]
    foreign += [f'{name}={config[name]!r}' for name, usual in _FIXED.items() if config.get(name, usual) != usual]
    if foreign:
        raise ValueError(
            f'this U-Net uses {", ".join(foreign)}; only the layout of Stable Diffusion 1.x and 2.x is known'
        )
