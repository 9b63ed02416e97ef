"""The settings of a synthesis: `stages.synthesis` of a config, read and checked.

H, W image size. T is the noising timestep (1 … T_max).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from inspect import signature
from typing import Any

import torch
from mmengine.config import Config

from mmdiff2in1.core.names import unknown_names

from .filters import check_thresholds
from .plan import NOISE, creation_size, timestep_choices

GONE = ('ignore_label',)
"""Keys of older configs that have nothing left to say: a sample has no label file any more."""

OF_CREATED = ('scenes', 'condition', 'controlnet', 'resample', 'num_samples', 'samples_per_image')
"""Settings that ask for created images."""

PRETRAINED, CREATOR = 'pretrained', 'creator'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings:
    """The keys of `stages.synthesis`, and nothing else.

    `layout`: what composes new images of the labelled ones first, a TASK_UTILS config of a `Layout`; then `T` is the
    noise level at which `diffusion` redraws them: 0, its default there, leaves them as they are and needs no
    `diffusion`. What is made has the size of its source and labels of its own.
    `diffusion`: what creates, see `load_generator`: a diffusers folder (Stable Diffusion, or any pipeline with an
    image-to-image form), one file of weights, 'builtin:scenes', or a dict of component configs (random weights, for
    trials). None: no generator; a layout composes, or there are `unlabelled` images alone.
    `unet`: which U-Net denoises. 'pretrained': that of `diffusion`; 'creator': that of the warm-up's result, in a chain
    (a U-Net that was tuned for perception alone forgets to denoise: see `DenoisingEncoderDecoder`); or a checkpoint.
    `scenes`: captions of new scenes in the place of the images' own, see `scene_captions` and `scene_plan`; None: each
    image under its own caption.
    `unlabelled`: folders, files or patterns of the user's own images without labels; with `copy_unlabelled` they are
    copied into the store. See `UnlabelledPool`.
    `captions`: JSONL file; `caption_fallback` stands in where it has none ('' = create without a caption).
    `T`, `num_calls`, `grid`, `solver`, `guidance_scale`: see `LatentDiffusion.create`, and `PipelineGenerator.create`
    for SDXL and beyond (solver 'pipeline'); `T` may be 'noise' (T_max), a list or a range, see `make_plan`, as are
    `samples_per_image`, `num_samples` (one of them) and `seed`. `size`: see `creation_size`.
    `controlnet`: folder of a ControlNet for `diffusion`; None: the one that it has in `controlnet/`, if any.
    `condition`: created images follow this label of their source, or with `layout` the composed one, see
    `ConditionSettings`; then `T` may be T_max.
    `resample`: some sources are created from more often, see `resample_settings`.
    `filters`: {score: (lowest, highest)}. `restore_size`, `keep_others`, `batch_size`: see `synthesize`. `device`: None
    takes the GPU of this process if there is one. `dtype`: of the diffusion weights. `compile`: True, or arguments of
    `torch.compile` for the denoiser, see `compile_denoiser`; dict(mode='reduce-overhead') is with CUDA graphs.
    """

    diffusion: str | Mapping | None = None
    unet: str = PRETRAINED
    captions: str | None = None
    caption_fallback: str | None = None
    scenes: Mapping | None = None
    unlabelled: str | Sequence[str] | None = None
    copy_unlabelled: bool = False
    T: int | str | Sequence[int] | Mapping[str, int] = 600
    num_calls: int = 20
    grid: str = 'even'
    solver: str = 'ddim'
    guidance_scale: float = 1.0
    samples_per_image: int | None = None
    num_samples: int | None = None
    seed: int = 0
    size: int | Sequence[int] | None = None
    controlnet: str | None = None
    condition: str | Mapping[str, Any] | None = None
    resample: Mapping[str, Any] | None = None
    layout: Mapping | None = None
    batch_size: int = 4
    filters: Mapping = field(default_factory=dict)
    restore_size: bool = False
    keep_others: bool = False
    device: str | None = None
    dtype: str = 'float32'
    compile: bool | Mapping[str, Any] | None = None

    @property
    def creates(self) -> bool:
        """True if images are made: by a generator, or a layout."""
        return self.diffusion is not None or self.layout is not None

    @property
    def draws(self) -> bool:
        """True if a generator is needed: not if a layout composes and nothing is redrawn, nor for unlabelled images."""
        if self.layout is None:
            return self.diffusion is not None
        return self.T == NOISE or any(level > 0 for level in timestep_choices(self.T))

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'SynthesisSettings':
        """Read `cfg.stages.synthesis`.

        Raises ValueError if it is absent, holds unknown keys or impossible numbers, asks for created images without
        `diffusion`, or for what excludes each other.
        """
        given = (cfg.get('stages') or {}).get('synthesis')
        if given is None:
            raise ValueError('the config has no stages.synthesis; expected dict(diffusion=…, captions=…, T=…, …) there')
        given = {key: value for key, value in given.items() if key not in GONE}
        known = [each.name for each in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f'unknown keys in stages.synthesis: {unknown_names(unknown, known)}')
        if given.get('layout') is not None:
            given = dict(T=0) | given
        settings = cls(**given)
        settings._check_numbers()
        settings._check_recipe()
        settings._check_generator()
        settings._check_labels()
        if settings.dtype not in DTYPES:
            raise ValueError(f'unknown dtype {settings.dtype!r}; known: {", ".join(DTYPES)}')
        settings._check_compile()
        check_thresholds(settings.filters)
        return settings

    def _check_numbers(self) -> None:
        """Counts must be counts, and numbers finite; what depends on the generator is asked of it later."""
        for name in ('batch_size', 'num_samples', 'samples_per_image', 'seed'):
            value, least = getattr(self, name), 0 if name == 'seed' else 1
            if value is None and name in ('num_samples', 'samples_per_image'):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f'stages.synthesis.{name} is {value!r}, expected an integer of {least} or more')
        scale = self.guidance_scale
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 <= scale < math.inf:
            raise ValueError(f'stages.synthesis.guidance_scale is {scale!r}, expected a finite number >= 0; 1 is none')

    def _check_recipe(self) -> None:
        """What no generator could do, found before one of gigabytes is loaded."""
        least = 1 if self.layout is None else 0
        wrong = [] if self.T == NOISE else [level for level in timestep_choices(self.T) if level < least]
        if wrong:
            raise ValueError(f'stages.synthesis.T is {wrong[0]}, expected {least} … T_max (1000 for Stable Diffusion)')
        calls = self.num_calls
        if isinstance(calls, bool) or not isinstance(calls, int) or calls < 1:
            raise ValueError(f'stages.synthesis.num_calls is {calls!r}, expected an integer of 1 or more, at most T')
        creation_size((1, 1), self.size, 1)

    def _check_compile(self) -> None:
        """Arguments that torch.compile takes."""
        if self.compile is None or isinstance(self.compile, bool):
            return
        known = [name for name in signature(torch.compile).parameters if name not in ('model', 'disable')]
        if not isinstance(self.compile, Mapping):
            raise ValueError(
                f"stages.synthesis.compile is {self.compile!r}, expected True or dict(mode='reduce-overhead')"
            )
        unknown = sorted(set(self.compile) - set(known))
        if unknown:
            raise ValueError(f'unknown arguments in stages.synthesis.compile: {unknown_names(unknown, known)}')

    def _check_generator(self) -> None:
        """A generator or layout must be there, where something is to be created."""
        if self.diffusion is not None:
            return
        if self.layout is not None:
            if self.draws:
                raise ValueError(
                    f'stages.synthesis.T={self.T} redraws what the layout composes, but there is no diffusion; '
                    'expected what creates, or T=0 for plain layouts'
                )
            return
        creating = [name for name in OF_CREATED if getattr(self, name) is not None]
        if creating or self.unlabelled is None or self.unet != PRETRAINED:
            found = f' and asks for created images by {", ".join(creating)}' if creating else ''
            raise ValueError(
                f'stages.synthesis lacks diffusion{found}; expected a diffusers folder, a file of weights, or '
                "'builtin:scenes'; without one unlabelled=FOLDER alone, or a layout"
            )

    def _check_labels(self) -> None:
        """Captions and labels of a sample must be able to be true together."""
        if self.layout is not None and self.condition is not None and not self.draws:
            raise ValueError(
                f'stages.synthesis.T is {self.T}, so no generator redraws what the layout composes and nothing follows '
                "the condition; expected T='noise' or another level, or no condition"
            )
        if self.scenes is not None and self.layout is not None:
            raise ValueError(
                'stages.synthesis has both layout and scenes: a layout writes the caption of what it composes; leave '
                'one of them out'
            )
        if self.scenes is not None and self.condition is not None:
            raise ValueError(
                'stages.synthesis has both condition and scenes: a created image cannot follow the label of its source '
                'and the caption of another scene; leave one of them out'
            )
