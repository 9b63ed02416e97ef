"""Images to latents and back: what every model with diffusers' AutoencoderKL does alike.

B, 3, H, W: RGB in [-1, 1]; B, c, h, w: latents.
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor

POSTERIORS = ('mode', 'sample')


def downscale_of(vae: AutoencoderKL) -> int:
    """Image pixels per latent cell, each direction."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def encode(
    vae: AutoencoderKL,
    images: Tensor,
    multiple: int,
    posterior: str = 'mode',
    scale: bool = True,
    generator: torch.Generator | list[torch.Generator] | None = None,
) -> Tensor:
    """Images → latents (B, c, h, w).

    Args:
        vae: The autoencoder.
        images: RGB in [-1, 1], (B, 3, H, W).
        multiple: H and W must be multiples of this.
        posterior: ``mode`` or ``sample`` of the VAE's Gaussian.
        scale: Bring them to the scale that the denoiser was trained on (VPD leaves it out), see :func:`scaled`.
        generator: For ``sample``; a list holds one per image.

    Raises:
        ValueError: Wrong shape, size or type, or unknown posterior.
    """
    if posterior not in POSTERIORS:
        raise ValueError(f'unknown posterior {posterior!r}; known: {", ".join(POSTERIORS)}')
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        found = f'{tuple(images.shape)}, {images.dtype}'
        raise ValueError(f'images must be (B, 3, H, W), floating point, RGB in [-1, 1]; found {found}')
    height, width = images.shape[-2:]
    if height % multiple or width % multiple:
        raise ValueError(f'image of {height}×{width}: height and width must be multiples of {multiple}')
    distribution = vae.encode(images.to(vae.dtype)).latent_dist
    z = distribution.mode() if posterior == 'mode' else distribution.sample(generator)
    return scaled(vae, z) if scale else z


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scaled latents (B, c, h, w) → RGB (B, 3, H, W), clamped to [-1, 1]."""
    return vae.decode(unscaled(vae, latents.to(vae.dtype))).sample.clamp(-1, 1)


def scaled(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """The VAE's own latents → of about unit variance, around zero."""
    shift = vae.config.shift_factor
    return (latents - shift if shift else latents) * vae.config.scaling_factor


def unscaled(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """The inverse of :func:`scaled`."""
    shift, latents = vae.config.shift_factor, latents / vae.config.scaling_factor
    return latents + shift if shift else latents
