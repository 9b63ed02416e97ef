"""Data creation: an image is brought to noise level T and denoised under its caption (Diff-2-in-1, Sec. 3.2).

B samples; c, h, w: latent.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .controlnet import check_conditions, residuals
from .interfaces import Creation, Features
from .sample_noise import generators_of, sample_noise
from .schedule import NoiseSchedule
from .solvers import SOLVERS
from .timesteps import Grid, timestep_grid

NO_BRANCH = (
    '{}, so it cannot be shown conditions; name one with stages.synthesis.controlnet (a folder with config.json and '
    'weights), use a pipeline that has one in controlnet/, or create without condition'
)


class Denoising(Protocol):
    """Interface that :func:`create` needs: encode, denoise step by step, decode; see :class:`.LatentDiffusion`."""

    schedule: NoiseSchedule
    unet: Any
    controlnet: Any
    multiple: int
    downscale: int
    latent_channels: int
    device: torch.device

    def encode(self, images: Tensor) -> Tensor:
        """Images → scaled latents."""

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents → images."""

    def encode_text(self, captions: list[str]) -> Tensor:
        """Captions → tokens."""

    def features(self, z: Tensor, t: Tensor, context: Tensor, **wanted: Any) -> Features:
        """One call of the U-Net that shows its inside."""


@torch.no_grad()
def create(
    diffusion: Denoising,
    images: Tensor | None,
    captions: Sequence[str],
    seeds: Sequence[int],
    T: int = 600,
    num_calls: int = 20,
    grid: str = 'even',
    solver: str = 'ddim',
    guidance_scale: float = 1.0,
    size: tuple[int, int] | None = None,
    record: dict | None = None,
    conditions: Tensor | None = None,
) -> Creation:
    """Creates one image per caption and seed.

    Args:
        diffusion: The model.
        images: Sources, RGB in [-1, 1], (B, 3, H, W); None for images from pure noise.
        captions: One per sample.
        seeds: One per sample; all noise, the initial and a solver's own, depends on nothing else.
        T: Noise level, 1 … T_max; T_max is pure noise, whatever the source.
        num_calls: Denoising calls asked for, see :func:`~mmdiff2in1.generators.timesteps.timestep_grid`.
        grid: ``even`` or ``released``.
        solver: One of :data:`~mmdiff2in1.generators.solvers.SOLVERS`.
        guidance_scale: Classifier-free guidance; 1 switches it off (and halves the work of any other value).
        size: Image size (H, W) where there is no source.
        record: Arguments of :meth:`LatentDiffusion.features` for the last call; its features go to ``Creation.last``.
        conditions: What the ControlNet shows the U-Net in every call, a label map in colours say: RGB in [0, 1],
            (B, 3, H, W); None: nothing. Under guidance both halves see it.

    Raises:
        ValueError: Numbers of images, captions and seeds differ; no source and T < T_max; unknown solver; a size that
            is no multiple of ``diffusion.multiple``; conditions for a model without a ControlNet, or of another number,
            size or range; see also ``timestep_grid``.
    """
    schedule = diffusion.schedule
    walked = planned_grid(T, num_calls, grid, solver, schedule.T_max)
    check_request(schedule.T_max, diffusion.multiple, images, captions, seeds, T, size)
    device, dtype = diffusion.device, diffusion.unet.dtype
    height, width = size if images is None else images.shape[-2:]
    if conditions is not None:
        if diffusion.controlnet is None:
            raise ValueError(NO_BRANCH.format('this model has no ControlNet'))
        check_conditions(conditions, len(captions), (height, width))
        conditions = conditions.to(device, dtype)
    shape = (diffusion.latent_channels, height // diffusion.downscale, width // diffusion.downscale)
    generators = generators_of(seeds)
    z = sample_noise(generators, shape).to(device)
    if T < schedule.T_max:
        z0 = diffusion.encode(images.to(device)).float()
        # The released grid tells its first call a timestep below the level that was noised to (facts of that code).
        z = schedule.add_noise(z0, z, torch.full((len(z),), T, device=device))
    context = diffusion.encode_text(list(captions))
    guided = guidance_scale != 1
    if guided:
        context = torch.cat([diffusion.encode_text([''] * len(captions)), context])
    last: list[Features] = []

    def denoise(z_t: Tensor, t: Tensor, is_last: bool) -> Tensor:
        copies = 2 if guided else 1
        z_t, t = z_t.repeat(copies, 1, 1, 1), t.repeat(copies)
        shown = None if conditions is None else conditions.repeat(copies, 1, 1, 1)
        added = residuals(diffusion.controlnet, z_t.to(dtype), t, context.to(dtype), shown)
        if is_last and record is not None:
            seen = diffusion.features(z_t, t, context, need_output=True, **record, **added)
            last.append(seen[-len(captions) :])
            output = seen.output.float()
        else:
            output = diffusion.unet(z_t.to(dtype), t, context.to(dtype), **added).sample.float()
        if guided:
            free, conditioned = output.chunk(2)
            output = free + guidance_scale * (conditioned - free)
        return output

    z = SOLVERS[solver](schedule, denoise, z, walked, generators)
    return Creation(diffusion.decode(z).float(), z, walked.timesteps, last[0] if last else None)


def planned_grid(T: int, num_calls: int, grid: str, solver: str, T_max: int) -> Grid:
    """The grid that is going to be walked; ValueError for a solver or a grid that does not exist."""
    if solver not in SOLVERS:
        raise ValueError(f'unknown solver {solver!r}; known: {", ".join(SOLVERS)}')
    return timestep_grid(T, num_calls, grid, T_max)


def check_request(
    T_max: int,
    multiple: int,
    images: Tensor | None,
    captions: Sequence[str],
    seeds: Sequence[int],
    T: int,
    size: tuple[int, int] | None,
) -> None:
    """Raises ValueError for images, captions and seeds that do not fit each other, or a model of T_max and multiple."""
    counts = {'captions': len(captions), 'seeds': len(seeds), **({} if images is None else {'images': len(images)})}
    if len(set(counts.values())) > 1 or not captions:
        raise ValueError(f'one caption, seed and image per sample are expected, found {counts}')
    if images is None and T < T_max:
        raise ValueError(f'T={T} keeps part of a source image, but none was given; use T={T_max}')
    if images is None and size is None:
        raise ValueError('images from pure noise need size=(height, width)')
    height, width = size if images is None else images.shape[-2:]
    if height % multiple or width % multiple:
        raise ValueError(f'image of {height}×{width}: height and width must be multiples of {multiple}')
