"""Requests for new images, from prompts or images, and results with their recipes.

H, W in pixels. T is the noise level that creation starts from, T_max stands for pure noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import nn

from mmdiff2in1.core.images import resize_image
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.synthesis import SynthesisSettings, creation_size
from mmdiff2in1.synthesis.generator import build_diffusion
from mmdiff2in1.synthesis.plan import timestep_choices

from .image_files import Picture
from .perception import Perception


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How images are created; see `LatentDiffusion.create`, and `creation_size` for `size`."""

    T: int
    num_calls: int = 20
    grid: str = 'even'
    solver: str = 'dpm++'
    guidance_scale: float = 1.0
    size: int | Sequence[int] | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """One image to create. `source` is the image (H, W, 3) at the size of creation, None for pure noise."""

    caption: str
    seed: int
    size: tuple[int, int]
    source: np.ndarray | None = field(default=None, repr=False)
    path: str | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Generation(Perception):
    """A created image with its map, and all that it depends on besides the weights.

    Attributes:
        caption, seed, T, grid, num_calls, solver, guidance_scale: Arguments of `LatentDiffusion.create`.
        calls: Denoising calls of the U-Net that were made.
        perception_calls: Forward passes made for the map, apart from `calls`: 1, or 0 where the head read the last
            denoising call.
        source: The image that was varied, at the size of creation, uint8 RGB (H, W, 3); None for pure noise.
    """

    caption: str
    seed: int
    T: int
    grid: str
    num_calls: int
    solver: str
    guidance_scale: float
    calls: int
    perception_calls: int
    source: np.ndarray | None = None

    def recipe(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON values."""
        names = ('caption', 'seed', 'T', 'grid', 'num_calls', 'solver', 'guidance_scale', 'calls', 'perception_calls')
        size = list(self.image.shape[:2])
        return dict(source=self.path, **{name: getattr(self, name) for name in names}, size=size)

    def __repr__(self) -> str:
        origin = f' from {Path(self.path).name}' if self.path else ''
        return (
            f'Created {self.caption or "without a caption"!r}{origin} (seed {self.seed}, T={self.T}): {self._summary()}'
        )


def diffusion_for(segmentor: nn.Module, cfg: Config, folder: str | Path | None) -> LatentDiffusion:
    """The model in `folder`; without one that of the segmentor's backbone, else that of `stages.synthesis`.

    A backbone that only perceives gets back what it has let go, from where its weights came.

    Raises:
        ValueError: None of the three names a model.
    """
    device = next(segmentor.parameters()).device
    if folder is not None:
        return LatentDiffusion.from_pretrained(folder).to(device).requires_grad_(False)
    backbone = getattr(segmentor, 'backbone', None)
    own = getattr(backbone, 'diffusion', None)
    if isinstance(own, LatentDiffusion) and not own.creates and isinstance(backbone.source, str):
        own.take_creation(LatentDiffusion.from_pretrained(backbone.source).requires_grad_(False))
    if isinstance(own, LatentDiffusion) and own.creates:
        return own
    if not _of_config(cfg).get('diffusion'):
        raise ValueError(
            f'{type(backbone).__name__} has no diffusion model to create with; name weights by diffusion=… or, '
            "of the command, --diffusion … ('builtin:scenes' comes with the package), or in stages.synthesis.diffusion"
        )
    diffusion = build_diffusion(replace(SynthesisSettings.from_cfg(cfg), layout=None, compile=None))
    if not isinstance(diffusion, LatentDiffusion):
        raise ValueError(
            'stages.synthesis.diffusion names a pipeline that creates training images only; name Stable Diffusion 1.x '
            "or 2.x by diffusion=…, or 'builtin:scenes'"
        )
    return diffusion.to(device).requires_grad_(False)


def settings_for(cfg: Config, from_images: bool, T_max: int, **given: Any) -> GenerationSettings:
    """Settings as they were given, else as in the config's `stages.synthesis`, else the defaults.

    Without a source, T is T_max and guidance is 2 where nothing is given: the caption alone says what to show. Where
    the config draws T from a list or a range, the middle one is taken.
    """
    chosen = {name: value for name, value in _of_config(cfg).items() if name in GenerationSettings.__dataclass_fields__}
    if chosen.get('solver') == 'pipeline':  # what creates training images is another model, see PipelineGenerator
        del chosen['solver']
    choices = [T for T in timestep_choices(chosen.get('T', 600), T_max) if T > 0] or [600]  # 0: a layout alone
    chosen['T'] = choices[len(choices) // 2]
    if not from_images:
        chosen |= dict(T=T_max, guidance_scale=2.0)
    return GenerationSettings(**chosen | {name: value for name, value in given.items() if value is not None})


def requests_from_prompts(
    prompts: Sequence[str], seeds: int | Sequence[int], settings: GenerationSettings, diffusion: LatentDiffusion
) -> list[Request]:
    """From pure noise.

    Raises:
        ValueError: No or an empty prompt, a T that keeps part of an image there is not, or see `paired`.
    """
    empty = [i for i, prompt in enumerate(prompts) if not prompt.strip()]
    if empty or not prompts:
        raise ValueError(f'prompts {empty} are empty; expected a sentence each' if empty else 'no prompts were given')
    if settings.T != diffusion.T_max:
        raise ValueError(
            f'T={settings.T} keeps part of a source image, but there are only prompts; leave T out (pure noise, '
            f'T={diffusion.T_max}), or give images'
        )
    trained_at = diffusion.unet.config.sample_size or 64  # latent cells; diffusers allows a pair
    height, width = (trained_at, trained_at) if isinstance(trained_at, int) else trained_at
    native = (height * diffusion.downscale, width * diffusion.downscale)
    size = creation_size(native, settings.size, diffusion.multiple)
    return [Request(caption=prompt, seed=seed, size=size) for prompt, seed in paired(prompts, seeds)]


def requests_from_images(
    pictures: Sequence[Picture],
    captions: str | Sequence[str] | None,
    seeds: int | Sequence[int],
    settings: GenerationSettings,
    multiple: int,
) -> list[Request]:
    """From partial noise. `captions`: one for all, or one each.

    Raises:
        ValueError: Numbers of images and captions differ, or see `paired`.
    """
    if captions is None or isinstance(captions, str):
        captions = [captions or ''] * len(pictures)
    if len(captions) != len(pictures):
        raise ValueError(f'{len(captions)} captions for {len(pictures)} images; give one for all, or one each')
    requests = []
    for (picture, caption), seed in paired(list(zip(pictures, captions, strict=True)), seeds):
        size = creation_size(picture.image.shape[:2], settings.size, multiple)
        source = resize_image(picture.image, size)
        requests.append(Request(caption=caption, seed=seed, size=size, source=source, path=picture.path))
    return requests


def paired(sources: Sequence, seeds: int | Sequence[int]) -> list[tuple[Any, int]]:
    """Sources with their seeds: one each; or one source with every seed, or every source with one seed.

    An integer is the seed of the first source; the next have the next.

    Raises:
        ValueError: Other numbers of seeds.
    """
    seeds = range(seeds, seeds + len(sources)) if isinstance(seeds, int) else seeds
    if len(seeds) == 0 or (len(seeds) != len(sources) and 1 not in (len(seeds), len(sources))):
        raise ValueError(f'{len(seeds)} seeds for {len(sources)} prompts or images; give one each, or one')
    count = max(len(sources), len(seeds))
    return [(sources[i % len(sources)], int(seeds[i % len(seeds)])) for i in range(count)]


def _of_config(cfg: Config) -> Mapping[str, Any]:
    return (cfg.get('stages') or {}).get('synthesis') or {}
