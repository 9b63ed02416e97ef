"""Names of the original latent-diffusion code → names of diffusers, for parts of which a file may lack some."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

CONVERTERS: dict[str, tuple[str, Callable[..., dict]]] = {
    'unet': ('model.diffusion_model.', convert_ldm_unet_checkpoint),
    'vae': ('first_stage_model.', convert_ldm_vae_checkpoint),
}
"""Part → the prefix that diffusers' converter looks for, and the converter."""


def diffusers_names(
    shapes: Mapping[str, tuple[int, ...]], part: str, config: Mapping[str, Any]
) -> dict[str, str | None]:
    """Original name → name in diffusers' model, None where it has no place in it.

    Some of a part is enough: a VAE without its decoder, a U-Net without its output layers.

    Args:
        shapes: Of the tensors, by name without the prefix of the part: ``input_blocks.0.0.weight``, ``encoder.…``.
        part: ``unet`` or ``vae``.
        config: Configuration of diffusers' model.
    """
    prefix, convert = CONVERTERS[part]
    # The converters move tensors and say nothing of what they pass over: each tensor is stood for by its number.
    numbers = {prefix + name: torch.full((1,) * len(shape), i) for i, (name, shape) in enumerate(shapes.items())}
    moved = convert(numbers, config)
    places = {int(number): name for name, number in moved.items() if number is not None}
    return {name: places.get(i) for i, name in enumerate(shapes)}
