"""The objective of a latent diffusion model, element by element. B samples; c, h, w: latent; L tokens of width D."""

from diffusers import UNet2DConditionModel
from torch import Tensor

from .schedule import NoiseSchedule


def denoising_errors(
    unet: UNet2DConditionModel, schedule: NoiseSchedule, z0: Tensor, noise: Tensor, t: Tensor, context: Tensor
) -> Tensor:
    """Squared differences (B, c, h, w) between what the U-Net predicts and what it should (Rombach et al. 2022, eq. 2).

    Args:
        unet: The denoiser.
        schedule: Says what it is to predict.
        z0: Scaled latents of images (B, c, h, w).
        noise: Standard normal, of the same shape.
        t: Timesteps (B,) of 0 … T_max - 1.
        context: Tokens (B, L, D) of the captions.
    """
    output = unet(schedule.add_noise(z0, noise, t), t, context).sample.float()
    return (output - schedule.target(z0, noise, t)).square()
