"""The objective of a latent diffusion model, element by element. B samples; c, h, w: latent; L tokens of width D."""

from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from .controlnet import residuals
from .schedule import NoiseSchedule


def denoising_errors(
    unet: UNet2DConditionModel,
    schedule: NoiseSchedule,
    z0: Tensor,
    noise: Tensor,
    t: Tensor,
    context: Tensor,
    controlnet: ControlNetModel | None = None,
    conditions: Tensor | None = None,
) -> Tensor:
    """Squared differences (B, c, h, w) between what the U-Net predicts and what it should (Rombach et al. 2022, eq. 2).

    Args:
        unet: The denoiser.
        schedule: Says what it is to predict.
        z0: Scaled latents of images (B, c, h, w).
        noise: Standard normal, of the same shape.
        t: Timesteps (B,) of 0 … T_max - 1.
        context: Tokens (B, L, D) of the captions.
        controlnet, conditions: The branch and the pictures (B, 3, H, W) in [0, 1] that it shows; None: without.
    """
    z_t = schedule.add_noise(z0, noise, t)
    output = unet(z_t, t, context, **residuals(controlnet, z_t, t, context, conditions)).sample.float()
    return (output - schedule.target(z0, noise, t)).square()
