"""Where the U-Net is read: its layers under the names of the original LDM code, ``in.0`` …, ``mid``, ``out.0`` ….

LDM counts one block per residual layer (with its attention) and one per downsampling convolution; an upsampling
convolution belongs to the last block of its level. Level 0 is the finest (the latent's own resolution).
"""

from dataclasses import dataclass

from diffusers import UNet2DConditionModel


@dataclass(frozen=True)
class Block:
    """One LDM block.

    Attributes:
        name: ``in.i``, ``mid`` or ``out.i``.
        level: Level of its output.
        channels: Channels of its output.
        attends_at: Level at which it attends to the tokens (an upsampling comes after), or None.
    """

    name: str
    level: int
    channels: int
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
