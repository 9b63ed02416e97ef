"""ControlNet (Zhang et al. 2023): a branch that shows a U-Net a picture, a label map say, while it denoises.

z: latents (B, c, h, w); context (B, L, D); conditions: RGB in [0, 1], (B, 3, H, W), at the size of the image.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor

from .diffusers_folder import read_model
from .reading import read_json

EMBEDDING_WIDTHS = (16, 32, 96, 256)
"""Channels of the small network that brings a picture to the latent's size; each but the first halves it (ControlNet,
Sec. 3.2). No wider than the U-Net's finest level."""
SHARED = ('in_channels', 'block_out_channels', 'layers_per_block', 'cross_attention_dim', 'down_block_types')
"""Settings that a branch shares with the U-Net that it adds to."""


def branch_for(unet: UNet2DConditionModel, downscale: int) -> ControlNetModel:
    """A new branch: a copy of the U-Net's encoder behind convolutions of zeros, so that it changes nothing yet.

    Args:
        unet: What it is going to add to.
        downscale: Image pixels per latent cell, each direction: the picture is halved until it has the latent's size.
    """
    halvings = downscale.bit_length() - 1
    widths = EMBEDDING_WIDTHS[: halvings + 1] + EMBEDDING_WIDTHS[-1:] * (halvings + 1 - len(EMBEDDING_WIDTHS))
    widths = tuple(min(width, max(16, unet.config.block_out_channels[0])) for width in widths)
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths)


def read_controlnet(folder: str | Path, dtype: torch.dtype = torch.float32) -> ControlNetModel:
    """A ControlNet in diffusers' layout: ``config.json`` and weights.

    Raises:
        FileNotFoundError: No such folder, or no ``config.json`` in it.
        ValueError: It holds something else, a file is damaged, or keys are missing or do not belong to it.
    """
    folder = Path(folder).expanduser()
    if not (folder / 'config.json').is_file():
        raise FileNotFoundError(
            f'{folder}: found no config.json, expected the folder of a ControlNet (config.json and '
            'diffusion_pytorch_model.safetensors, as in controlnet/ of a pipeline). Nothing is downloaded here'
        )
    kind = read_json(folder / 'config.json').get('_class_name')
    if kind != 'ControlNetModel':
        raise ValueError(f'{folder} holds a {kind}, expected a ControlNetModel for Stable Diffusion 1.x or 2.x')
    return read_model(ControlNetModel, folder, dtype)


def check_controlnet(controlnet: ControlNetModel, unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
    """Raises ValueError for a branch of another U-Net or another size of latent."""
    other = [name for name in SHARED if _plain(controlnet.config[name]) != _plain(unet.config[name])]
    if other:
        found = ', '.join(f'{name} {controlnet.config[name]} and {unet.config[name]}' for name in other)
        raise ValueError(f'the ControlNet does not fit the U-Net: {found}; use the one that was trained for this model')
    downscale = 2 ** (len(vae.config.block_out_channels) - 1)
    shown = 2 ** (len(controlnet.config.conditioning_embedding_out_channels) - 1)
    if shown != downscale or controlnet.config.conditioning_channels != 3:
        raise ValueError(
            f'the ControlNet takes pictures of {controlnet.config.conditioning_channels} channels and makes them '
            f'{shown} times smaller, expected 3 channels and {downscale}, as the VAE does with the image'
        )


def check_conditions(conditions: Tensor, batch: int, size: tuple[int, int]) -> None:
    """Raises ValueError for pictures of another number, size or range than a batch of images of ``size`` needs."""
    if tuple(conditions.shape) != (batch, 3, *size) or not conditions.is_floating_point():
        raise ValueError(
            f'conditions are {tuple(conditions.shape)}, {conditions.dtype}; expected {(batch, 3, *size)}, floating '
            'point, RGB in [0, 1], one picture per sample at the size of the image'
        )
    if conditions.min() < 0 or conditions.max() > 1:
        raise ValueError(
            f'conditions lie in [{conditions.min():.3g}, {conditions.max():.3g}], expected [0, 1]: colours, not '
            'images in [-1, 1]'
        )


def residuals(
    controlnet: ControlNetModel | None, z: Tensor, t: Tensor, context: Tensor, conditions: Tensor | None
) -> dict[str, Any]:
    """The branch's addition to one U-Net call, as arguments of that call; none without conditions."""
    if controlnet is None or conditions is None:
        return {}
    down, mid = controlnet(z, t, context, conditions.to(z), return_dict=False)
    return dict(down_block_additional_residuals=tuple(down), mid_block_additional_residual=mid)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
