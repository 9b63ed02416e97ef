"""The generator that the settings of a synthesis name: loaded, with its U-Net and on its device."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from mmdiff2in1.core.devices import check_device

from .composing import NoGenerator
from .settings import CREATOR, DTYPES, PRETRAINED, SynthesisSettings

if TYPE_CHECKING:
    from mmdiff2in1.generators import Generator


def build_diffusion(settings: SynthesisSettings, rank: int = 0) -> 'Generator':
    """Load what creates onto its device, if anything does; random weights depend on the seed of the settings only.

    Raises ValueError where nothing is created, or the device is not there.
    """
    if settings.creates and not settings.draws:
        return NoGenerator()
    if settings.diffusion is None:
        raise ValueError('stages.synthesis.diffusion is None: nothing is created; name what creates')
    from mmdiff2in1.generators import LatentDiffusion
    from mmdiff2in1.generators.compiling import compile_denoiser
    from mmdiff2in1.generators.loading import load_generator

    if settings.device:
        check_device(settings.device, 'stages.synthesis.device')
    dtype = DTYPES[settings.dtype]
    if isinstance(settings.diffusion, str):
        generator = load_generator(settings.diffusion, dtype, settings.controlnet)
    elif settings.controlnet is not None:
        raise ValueError('controlnet names weights on disk and diffusion random ones; give that dict a controlnet=…')
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            generator = LatentDiffusion.from_config(dict(settings.diffusion))
        for part in (generator.vae, generator.unet, generator.text, generator.controlnet):
            if part is not None:  # not the schedule, which needs float32
                part.to(dtype)
    if settings.unet != PRETRAINED:
        take_trained_unet(generator, settings.unet)
    if settings.compile:
        options = settings.compile if isinstance(settings.compile, Mapping) else {}
        compile_denoiser(generator.denoiser, **options)
    return generator.to(device_of(settings, rank))


def device_of(settings: SynthesisSettings, rank: int = 0) -> str:
    """Where process `rank` of this machine creates."""
    return settings.device or (f'cuda:{rank % torch.cuda.device_count()}' if torch.cuda.is_available() else 'cpu')


def check_unet(generator: 'Generator', unet: str) -> None:
    """ValueError if the U-Net of a checkpoint, or of a warm-up, has no place in what creates."""
    from mmdiff2in1.generators import LatentDiffusion

    if not isinstance(generator, LatentDiffusion):
        raise ValueError(
            f'stages.synthesis.unet={unet!r}, but {type(generator).__name__} has no U-Net that we train; set '
            "unet='pretrained'"
        )


def take_trained_unet(generator: 'Generator', checkpoint: str) -> None:
    """Give what creates the U-Net of a checkpoint; ValueError if it has no place there, or is still to be trained."""
    from mmdiff2in1.generators.trained_weights import load_trained_unet

    if checkpoint == CREATOR:
        raise ValueError(
            "stages.synthesis.unet='creator' is the U-Net of the warm-up, which mmdiff2in1 train alone knows; name "
            'its checkpoint: stages.synthesis.unet=work_dirs/…/warmup/iter_….pth'
        )
    check_unet(generator, checkpoint)
    load_trained_unet(generator, checkpoint)
