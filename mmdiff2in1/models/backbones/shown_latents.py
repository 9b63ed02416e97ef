"""The latents that the denoiser of a backbone is shown, as its feature config says: padded, drawn, scaled, noised.

B, 3, H, W: RGB in [-1, 1]; c, h, w: latent. A model in eval mode has the same fixed draw for every sample, so that a
prediction depends on its image alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiff2in1.generators import Perceiver

from .feature_config import FeatureConfig


def padded(perceiver: Perceiver, feature: FeatureConfig, images: Tensor) -> Tensor:
    """Images of any size, padded to the right and bottom to what the model needs."""
    height, width = images.shape[-2:]
    multiple = perceiver.multiple
    right, bottom = -width % multiple, -height % multiple
    if right or bottom:
        mode = 'replicate' if feature.padding == 'cropped' else 'constant'
        images = F.pad(images, (0, right, 0, bottom), mode=mode)
    return images


def shown_latents(
    perceiver: Perceiver, feature: FeatureConfig, images: Tensor, training: bool, with_levels: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Of padded images: latents (B, c, h, w), (B, n, c, h, w) under noise of n timesteps; and the encoder's levels.

    There are no levels unless they are asked for.
    """
    generators = _generators(images, 0, training) if feature.posterior == 'sample' else None
    given = images, feature.posterior, feature.latent_scale, generators
    latents, levels = perceiver.encode_with_levels(*given) if with_levels else (perceiver.encode(*given), ())
    return noised(perceiver, feature, latents, training), levels


def noised(perceiver: Perceiver, feature: FeatureConfig, latents: Tensor, training: bool) -> Tensor:
    """Brought to the noise level of the feature config's timestep, if it asks for noise.

    Several timesteps share a draw: (B, n, c, h, w).
    """
    if not feature.noise:
        return latents
    generators = _generators(latents, 1, training) or [None] * len(latents)
    noise = torch.stack(
        [torch.randn(z.shape, generator=g, device=z.device) for z, g in zip(latents, generators, strict=True)]
    )
    several = [
        perceiver.add_noise(latents, noise, torch.full((len(latents),), timestep, device=latents.device))
        for timestep in feature.timesteps
    ]
    return several[0] if len(several) == 1 else torch.stack(several, 1)


def _generators(batch: Tensor, seed: int, training: bool) -> list[torch.Generator] | None:
    return None if training else [torch.Generator(batch.device).manual_seed(seed) for _ in batch]
