"""Base of all models that denoise the latents of diffusers' AutoencoderKL.

B, 3, H, W: RGB in [-1, 1]; B, c, h, w: latents.
"""

from typing import Any, Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from .encoder_levels import encode_with_levels

POSTERIORS = ('mode', 'sample')


class LatentModel(nn.Module):
    """Encodes, decodes and noises; a subclass adds the denoiser and what it attends to.

    Attributes:
        vae: Image autoencoder.
        schedule: Noise schedule with ``T_max`` and ``add_noise``.
        text: Text encoder or encoders, with tokenizers; None where creation was let go.
    """

    vae: AutoencoderKL
    schedule: Any
    text: Any

    @property
    def denoiser(self) -> Any:
        """The part that denoises, a model of diffusers."""
        raise NotImplementedError

    @property
    def multiple(self) -> int:
        """Image height and width must be multiples of this."""
        raise NotImplementedError

    @property
    def downscale(self) -> int:
        """Image pixels per latent cell, each direction."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def latent_channels(self) -> int:
        """c, channels of the latent."""
        return self.vae.config.latent_channels

    @property
    def encoder_channels(self) -> tuple[int, ...]:
        """Channels of the encoder's levels at strides 1, 2, … up to half of :attr:`downscale`."""
        return tuple(self.vae.config.block_out_channels[:-1])

    @property
    def T_max(self) -> int:  # noqa: N802 (the paper's symbol)
        """Number of training timesteps; T = T_max is pure noise."""
        return self.schedule.T_max

    @property
    def other_parts(self) -> list[nn.Module]:
        """Everything but the denoiser."""
        return [part for part in self.children() if part is not self.denoiser]

    def enable_gradient_checkpointing(self) -> None:
        """The backward pass computes the denoiser's layers anew instead of keeping their inside."""
        self.denoiser.enable_gradient_checkpointing()

    @property
    def creates(self) -> bool:
        """False once :meth:`keep_perception` has been called."""
        return self.text is not None

    def keep_perception(self) -> None:
        """Lets go of what only creation needs: the VAE's way back to pixels, and the text encoder."""
        self.vae.decoder = self.vae.post_quant_conv = self.text = None  # type: ignore[assignment]

    def take_creation(self, whole: Self) -> None:
        """Takes them from another model of the same weights again, on this one's device."""
        device = next(self.denoiser.parameters()).device
        self.vae.decoder, self.vae.post_quant_conv = whole.vae.decoder.to(device), whole.vae.post_quant_conv.to(device)
        self.text = whole.text.to(device)

    def check_creates(self) -> None:
        """Raises ValueError where creation was let go."""
        if not self.creates:
            raise ValueError(
                'this model only perceives: its backbone keeps neither text encoder nor VAE decoder. Set creation=True '
                'of the backbone, or name the weights that create'
            )

    def encode(
        self,
        images: Tensor,
        posterior: str = 'mode',
        scale: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Tensor:
        """Images → latents (B, c, h, w).

        Args:
            images: RGB in [-1, 1], (B, 3, H, W), sides multiples of :attr:`multiple`.
            posterior: ``mode`` or ``sample`` of the VAE's Gaussian.
            scale: Bring them to the scale that the denoiser was trained on (VPD leaves it out), see :meth:`scaled`.
            generator: For ``sample``; a list holds one per image.

        Raises:
            ValueError: Wrong shape, size or type, or unknown posterior.
        """
        self._check(images, posterior)
        return self._drawn(self.vae.encode(images.to(self.vae.dtype)).latent_dist, posterior, scale, generator)

    def encode_with_levels(
        self,
        images: Tensor,
        posterior: str = 'mode',
        scale: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """:meth:`encode`, and what the encoder saw on its way: one map per level, fine to coarse.

        Level i is what stands before the encoder's i-th downsampling, (B, C_i, H / 2^i, W / 2^i), raw: without norm,
        in the VAE's type.
        """
        self._check(images, posterior)
        distribution, levels = encode_with_levels(self.vae, images.to(self.vae.dtype))
        return self._drawn(distribution, posterior, scale, generator), levels

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, c, h, w) → RGB (B, 3, H, W), clamped to [-1, 1]."""
        self.check_creates()
        return self.vae.decode(self.unscaled(latents.to(self.vae.dtype))).sample.clamp(-1, 1)

    def scaled(self, latents: Tensor) -> Tensor:
        """The VAE's own latents → as the denoiser was trained on them: around zero, of about unit variance."""
        shift = self.vae.config.shift_factor
        return (latents - shift if shift else latents) * self.vae.config.scaling_factor

    def unscaled(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`scaled`."""
        shift, latents = self.vae.config.shift_factor, latents / self.vae.config.scaling_factor
        return latents + shift if shift else latents

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Scaled latents and standard normal noise (B, c, h, w) → latents at timesteps ``t`` (B,)."""
        return self.schedule.add_noise(z0, noise, t)

    def _check(self, images: Tensor, posterior: str) -> None:
        if posterior not in POSTERIORS:
            raise ValueError(f'unknown posterior {posterior!r}; known: {", ".join(POSTERIORS)}')
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            found = f'{tuple(images.shape)}, {images.dtype}'
            raise ValueError(f'images must be (B, 3, H, W), floating point, RGB in [-1, 1]; found {found}')
        height, width = images.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(f'image of {height}×{width}: height and width must be multiples of {self.multiple}')

    def _drawn(self, distribution: Any, posterior: str, scale: bool, generator: Any) -> Tensor:
        z = distribution.mode() if posterior == 'mode' else distribution.sample(generator)
        return self.scaled(z) if scale else z
