"""What creates images: the few things that synthesis asks of a model, and how to open any weights as such a model.

B, 3, H, W: RGB in [-1, 1].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from .creation import Creation
from .latent_diffusion import LatentDiffusion
from .ldm_text import is_sdxl
from .weight_files import WeightFile
from .weights import creates_only, find_weights


class Generator(Protocol):
    """Image-to-image under a caption, from a seed: :class:`.LatentDiffusion`, :class:`.PipelineGenerator`."""

    @property
    def multiple(self) -> int:
        """Image height and width must be multiples of this."""

    @property
    def T_max(self) -> int:  # noqa: N802 (the paper's symbol)
        """Number of training timesteps; T = T_max is pure noise, whatever the source."""

    def planned_timesteps(self, T: int, num_calls: int, grid: str, solver: str) -> list[int]:
        """The timesteps that :meth:`create` is going to walk, one denoising call each; ValueError if it cannot."""

    def create(
        self,
        images: Tensor | None,
        *,
        captions: Sequence[str],
        seeds: Sequence[int],
        T: int,
        num_calls: int,
        grid: str,
        solver: str,
        guidance_scale: float,
        size: tuple[int, int] | None,
    ) -> Creation:
        """One image per caption and seed, from ``images`` (B, 3, H, W), or from pure noise of ``size`` (H, W)."""

    def weights_hash(self) -> str:
        """Of all that decides the images besides the arguments of :meth:`create`."""

    def to(self, device: torch.device | str) -> Self:
        """Moves the weights to ``device``; returns itself."""


def load_generator(path: str | Path, dtype: torch.dtype = torch.float32) -> Generator:
    """Opens weights of any kind that can create; nothing is downloaded.

    Args:
        path: What :meth:`.LatentDiffusion.from_pretrained` takes; or the folder of another diffusers pipeline that has
            an image-to-image form (SDXL, Stable Diffusion 3, FLUX, …); or one ``.safetensors`` or ``.ckpt`` file of
            SDXL in its original layout.
        dtype: Type of the parameters.

    Raises:
        FileNotFoundError: The path, or a part of the folder, does not exist.
        ValueError: A file is damaged or does not fit the others, or there is no image-to-image form.
    """
    place = find_weights(path)
    if place.is_file() and is_sdxl(WeightFile(place)):
        from .sdxl_file import read_sdxl_file  # here and below: diffusers' pipelines take seconds to import

        pipeline = read_sdxl_file(place, dtype)
    elif place.is_dir() and creates_only(place):
        from .pipeline_folder import read_pipeline

        pipeline = read_pipeline(place, dtype)
    else:
        return LatentDiffusion.from_pretrained(path, dtype)
    from .pipeline_generator import PipelineGenerator

    return PipelineGenerator(pipeline)
