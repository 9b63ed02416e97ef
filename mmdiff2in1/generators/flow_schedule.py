"""The noise schedule of flow matching: a straight line from the clean latent to noise.

B, c, h, w: latents. σ_t: share of noise at timestep t.
"""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from .scheduler_config import flow_config


class FlowSchedule(nn.Module):
    """Rectified flow of a diffusers scheduler configuration (Esser et al. 2024).

    Timestep t stands for the noise share t / T_max before the scheduler's shift s, σ_t = s u / (1 + (s - 1) u): as in
    training, where the shift makes t noisier. t = 0 is the clean latent.

    Args:
        config: A diffusers ``scheduler_config.json`` as a dict (``num_train_timesteps``, ``shift``).

    Raises:
        ValueError: It is of another kind, see :func:`.flow_config`; the shift follows the size of the image (FLUX), so
            that a timestep alone is no noise level.
    """

    def __init__(self, config: dict):
        super().__init__()
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(flow_config(config))
        if scheduler.config.use_dynamic_shifting:
            raise ValueError(
                'the scheduler shifts timesteps by the size of the image (use_dynamic_shifting), which is not '
                'supported; expected one shift, as in Stable Diffusion 3'
            )
        # diffusers counts from most noise to least, and leaves the clean latent out.
        levels = torch.cat([torch.zeros(1), scheduler.sigmas.flip(0)])
        self.register_buffer('sigmas', levels, persistent=False)

    @property
    def T_max(self) -> int:  # noqa: N802 (the paper's symbol)
        """Number of training timesteps."""
        return len(self.sigmas) - 1

    def told(self, t: Tensor) -> Tensor:
        """The number that the denoiser is told at ``t`` (B,): σ_t · T_max."""
        return self.sigmas[t] * self.T_max

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """z_t = (1 - σ_t) z_0 + σ_t ε for timesteps ``t`` (B,) of 0 … T_max - 1."""
        sigma = self.sigmas[t].view(-1, 1, 1, 1)
        return sigma * noise + (1 - sigma) * z0

    def target(self, z0: Tensor, noise: Tensor) -> Tensor:
        """The output that the denoiser learns, at any timestep: the velocity ε - z_0."""
        return noise - z0
