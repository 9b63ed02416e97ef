"""Objectives of the parts of a latent diffusion model when they are trained from scratch.

B, 3, H, W: RGB in [-1, 1]; c, h, w: latent; L tokens.
"""

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdiff2in1.core.bf16 import bf16_autocast
from mmdiff2in1.generators.denoising import denoising_errors
from mmdiff2in1.generators.latent_diffusion import LatentDiffusion


class AutoencoderObjective(BaseModel):
    """Reconstruction (mean squared and absolute error) plus a small KL term for an AutoencoderKL.

    Args:
        vae: An AutoencoderKL of diffusers.
        kl_weight: Weight of the KL divergence to N(0, I), mean over latent elements.
        bf16: Run the network under bfloat16 autocast, where the device computes in it.
    """

    def __init__(self, vae: nn.Module, kl_weight: float = 1e-5, bf16: bool = False):
        super().__init__()
        self.vae, self.kl_weight, self.bf16 = vae, kl_weight, bf16

    def forward(self, images: Tensor, captions: list[str] | None = None, mode: str = 'loss') -> dict | list[dict]:
        """Losses (``mode='loss'``), or ``mse`` of each image in units of the 0 … 1 range (``'predict'``)."""
        with bf16_autocast(self.bf16 and 'auto', images.device):
            posterior = self.vae.encode(images).latent_dist
            z = posterior.sample() if mode == 'loss' else posterior.mode()
            reconstruction = self.vae.decode(z).sample.float()
        error = reconstruction - images
        if mode == 'predict':
            squared = ((reconstruction.clamp(-1, 1) - images) / 2).square()
            return [{'mse': error} for error in squared.mean((1, 2, 3))]
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return {'loss_mse': error.square().mean(), 'loss_l1': 0.2 * error.abs().mean(), 'loss_kl': self.kl_weight * kl}


class DenoisingObjective(BaseModel):
    """The noise-prediction loss of latent diffusion (Rombach et al. 2022, eq. 2), text encoder trained along.

    Works on latents that were encoded beforehand: the autoencoder is frozen, so it does not run here. With conditions
    the ControlNet takes part (Zhang et al. 2023, eq. 5).

    Args:
        diffusion: The model whose U-Net and text encoder, or ControlNet, are trained.
        drop_caption: Share of captions that are emptied, which classifier-free guidance needs.
        bf16: Run the networks under bfloat16 autocast, where the device computes in it.
    """

    def __init__(self, diffusion: LatentDiffusion, drop_caption: float = 0.1, bf16: bool = False):
        super().__init__()
        self.unet, self.text, self.schedule = diffusion.unet, diffusion.text, diffusion.schedule
        self.controlnet = diffusion.controlnet
        self.drop_caption, self.bf16 = drop_caption, bf16
        self.register_buffer('empty', self.text.token_ids([''])[0], persistent=False)

    def forward(
        self, latents: Tensor, token_ids: Tensor, mode: str = 'loss', conditions: Tensor | None = None
    ) -> dict | list[dict]:
        """Losses, or (``'predict'``) ``mse`` of each sample at timesteps spread evenly over the batch, fixed noise.

        Args:
            latents: Scaled, (B, c, h, w).
            token_ids: (B, L) int64.
            mode: ``loss`` or ``predict``.
            conditions: (B, 3, H, W) in [0, 1], at the size of the images; None: without the ControlNet.
        """
        batch, device = len(latents), latents.device
        if mode == 'loss':
            t = torch.randint(self.schedule.T_max, (batch,), device=device)
            noise = torch.randn_like(latents)
            dropped = torch.rand(batch, 1, device=device) < self.drop_caption
            token_ids = torch.where(dropped, self.empty, token_ids)
        else:
            t = ((torch.arange(batch, device=device) + 0.5) * self.schedule.T_max / batch).long()
            noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(device)
        with bf16_autocast(self.bf16 and 'auto', device):
            context = self.text(token_ids)
            shown = (self.controlnet, conditions)
            error = denoising_errors(self.unet, self.schedule, latents, noise, t, context, *shown).mean((1, 2, 3))
        return {'loss_denoising': error.mean()} if mode == 'loss' else [{'mse': each} for each in error]
