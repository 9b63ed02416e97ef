"""The ground floor: latent diffusion models that create images and show their inner features."""

from .creation import Creation
from .features import Features
from .latent_diffusion import LatentDiffusion
from .schedule import NoiseSchedule, initial_noise
from .taps import ldm_blocks, vpd_taps
from .timesteps import timestep_grid

__all__ = [
    'Creation', 'Features', 'LatentDiffusion', 'NoiseSchedule', 'initial_noise', 'ldm_blocks', 'timestep_grid', 'vpd_taps',
]
