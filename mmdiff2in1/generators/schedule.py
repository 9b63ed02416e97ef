"""The noise schedule: what a timestep means, and what the U-Net's output says about the clean latent.

B, c, h, w: latents. ᾱ_t: cumulative product of 1 - β, here ``alphas_cumprod[t]``.
"""

from diffusers import DDPMScheduler
from torch import Tensor, nn

from .scheduler_config import noise_config

SCHEDULE_FIELDS = (
    'num_train_timesteps', 'beta_start', 'beta_end', 'beta_schedule', 'trained_betas', 'rescale_betas_zero_snr',
    'prediction_type',
)  # fmt: skip
"""Fields of a diffusers scheduler configuration that say what a timestep and an output mean."""


class NoiseSchedule(nn.Module):
    """Variance-preserving forward process of a diffusers scheduler configuration.

    Args:
        config: A diffusers ``scheduler_config.json`` as a dict (betas, ``num_train_timesteps``, ``prediction_type``).

    Raises:
        ValueError: It is of another kind, lacks the betas, or they are none, see :func:`.noise_config`; the prediction
            type is none of ``epsilon``, ``v_prediction``, ``sample``.
    """

    def __init__(self, config: dict):
        super().__init__()
        scheduler = DDPMScheduler.from_config(noise_config(config))
        # Without diffusers' notes on which fields were defaults: written to a file, they would overrule its fields.
        self.config = {name: value for name, value in scheduler.config.items() if not name.startswith('_')}
        self.prediction_type: str = self.config['prediction_type']
        self.register_buffer('alphas_cumprod', scheduler.alphas_cumprod.float(), persistent=False)

    @property
    def T_max(self) -> int:  # noqa: N802 (the paper's symbol)
        """Number of training timesteps."""
        return len(self.alphas_cumprod)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1 - ᾱ_t), the shares of the clean latent and of noise, (B, 1, 1, 1) each."""
        alpha_bar = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """z_t = √ᾱ_t z_0 + √(1 - ᾱ_t) ε for timesteps ``t`` (B,) of 0 … T_max - 1 (DDPM, eq. 4)."""
        signal, sigma = self.levels(t)
        return signal * z0 + sigma * noise

    def target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The output that the U-Net learns at ``t``: ε, v = √ᾱ ε - √(1 - ᾱ) z_0, or z_0."""
        if self.prediction_type == 'epsilon':
            return noise
        if self.prediction_type == 'sample':
            return z0
        signal, sigma = self.levels(t)
        return signal * noise - sigma * z0

    def clean_and_noise(self, output: Tensor, z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Splits ``z_t`` into the clean latent and the noise that the U-Net's ``output`` stands for."""
        signal, sigma = self.levels(t)
        if self.prediction_type == 'epsilon':
            return (z_t - sigma * output) / signal, output
        if self.prediction_type == 'sample':
            return output, (z_t - signal * output) / sigma
        return signal * z_t - sigma * output, sigma * z_t + signal * output
