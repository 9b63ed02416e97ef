"""The ground floor: models that create images and models that show their inner features."""

from .autoencoder import POSTERIORS
from .features import check_wanted
from .interfaces import Creation, Features, Generator, Perceiver, Tap
from .latent_diffusion import LatentDiffusion
from .schedule import NoiseSchedule
from .taps import freeze_unread, ldm_blocks, vpd_taps
from .timesteps import Grid, timestep_grid

__all__ = [
    'Creation',
    'Features',
    'Generator',
    'Grid',
    'LatentDiffusion',
    'NoiseSchedule',
    'POSTERIORS',
    'Perceiver',
    'Tap',
    'check_wanted',
    'freeze_unread',
    'ldm_blocks',
    'timestep_grid',
    'vpd_taps',
]
