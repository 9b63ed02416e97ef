"""How to open any weights as a model that creates, or as one that perceives."""

from pathlib import Path
from typing import Any

import torch

from .interfaces import Generator, Perceiver
from .latent_diffusion import LatentDiffusion
from .ldm_names import LdmFile
from .ldm_text import is_sdxl
from .stable_diffusion_3 import StableDiffusion3
from .weights import creates_only, find_weights

PERCEIVERS: tuple[Any, ...] = (StableDiffusion3,)
"""Classes with ``reads(place)``, ``check(path)`` and ``from_pretrained(path)``, besides LatentDiffusion: it gets what
no other reads, and says what is wrong with it."""


def check_perceiver(path: str | Path) -> None:
    """Makes sure that weights are there, whole, and of a kind that perceives, before anything is loaded.

    Raises:
        FileNotFoundError: No such folder or file, or a part is missing in the folder.
        ValueError: The file is damaged, or holds something else; the folder holds a pipeline that does not perceive.
    """
    _perceiver_of(path).check(path)


def load_perceiver(weights: str | Path | dict) -> Perceiver:
    """Opens weights of any kind that perceives, frozen; nothing is downloaded.

    Args:
        weights: What :meth:`.LatentDiffusion.from_pretrained` takes; the diffusers folder of Stable Diffusion 3; or a
            dict of random-weight components for :meth:`.LatentDiffusion.from_config`.

    Raises:
        FileNotFoundError, ValueError: As :func:`check_perceiver`; a file is damaged or does not fit the others.
    """
    if isinstance(weights, dict):
        perceiver = LatentDiffusion.from_config(weights)
    else:
        perceiver = _perceiver_of(weights).from_pretrained(weights)
    if isinstance(perceiver, LatentDiffusion):
        perceiver.controlnet = None  # it shows a picture to what creates; a checkpoint of a perceiver holds none
    return perceiver.requires_grad_(False)


def _perceiver_of(path: str | Path) -> Any:
    place = find_weights(path)
    return next((kind for kind in PERCEIVERS if kind.reads(place)), LatentDiffusion)


def load_generator(
    path: str | Path, dtype: torch.dtype = torch.float32, controlnet: str | Path | None = None
) -> Generator:
    """Opens weights of any kind that can create; nothing is downloaded.

    Args:
        path: What :meth:`.LatentDiffusion.from_pretrained` takes; or the folder of another diffusers pipeline that has
            an image-to-image form (SDXL, Stable Diffusion 3, FLUX, …); or one ``.safetensors`` or ``.ckpt`` file of
            SDXL in its original layout.
        dtype: Type of the parameters.
        controlnet: Folder of a ControlNet for Stable Diffusion 1.x or 2.x, or None, see
            :meth:`.LatentDiffusion.from_pretrained`.

    Raises:
        FileNotFoundError: The path, or a part of the folder, does not exist.
        ValueError: A file is damaged or does not fit the others, there is no image-to-image form, or a ControlNet for
            another pipeline.
    """
    place = find_weights(path)
    if place.is_file() and is_sdxl(LdmFile(place)):
        from .sdxl_file import read_sdxl_file  # here and below: diffusers' pipelines take seconds to import

        pipeline = read_sdxl_file(place, dtype)
    elif place.is_dir() and creates_only(place):
        from .pipeline_folder import read_pipeline

        pipeline = read_pipeline(place, dtype)
    else:
        return LatentDiffusion.from_pretrained(path, dtype, controlnet)
    if controlnet is not None:
        raise ValueError(
            f'controlnet={str(controlnet)!r}, but {type(pipeline).__name__} is stepped by its own code, which cannot '
            'be told the timesteps together with a ControlNet; expected Stable Diffusion 1.x or 2.x'
        )
    from .pipeline_generator import PipelineGenerator

    return PipelineGenerator(pipeline)
