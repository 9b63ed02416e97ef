"""The ground floor: latent diffusion models that create images and show their inner features."""

from .creation import Creation
from .denoising import denoising_errors
from .features import Features, check_wanted
from .latent_diffusion import POSTERIORS, LatentDiffusion
from .schedule import NoiseSchedule, initial_noise
from .taps import freeze_unread, last_read, ldm_blocks, vpd_taps
from .timesteps import timestep_grid

__all__ = [
    'Creation',
    'Features',
    'LatentDiffusion',
    'NoiseSchedule',
    'POSTERIORS',
    'check_wanted',
    'denoising_errors',
    'freeze_unread',
    'initial_noise',
    'last_read',
    'ldm_blocks',
    'timestep_grid',
    'vpd_taps',
]
