"""Generators beyond Stable Diffusion 1.x and 2.x: any image-to-image pipeline of diffusers (SDXL, SD3, FLUX, …).

B samples; B, 3, H, W: RGB in [-1, 1].
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from math import lcm
from typing import Any, Self

import torch
from diffusers import AutoPipelineForText2Image, DiffusionPipeline
from torch import Tensor, nn

from mmdiff2in1.core.digest import add_tensors

from .caption_flaws import CaptionFlaws, caption_flaws
from .creation import NO_BRANCH, check_request
from .interfaces import Creation
from .sample_noise import generators_of
from .timesteps import timestep_grid
from .tokenizer_folder import foreign_vocabulary

GRID, SOLVER = 'even', 'pipeline'
NEEDED = (
    'prompt', 'image', 'strength', 'num_inference_steps', 'guidance_scale', 'generator', 'output_type',
    'callback_on_step_end',
)  # fmt: skip


class PipelineGenerator:
    """Creates with a diffusers pipeline and its own scheduler; it shows no features, so it cannot perceive.

    Args:
        pipeline: Image-to-image, with a ``strength``; in :mod:`.pipeline_folder` and :mod:`.sdxl_file` are ways to one.

    Raises:
        ValueError: The pipeline cannot be asked for that, or its scheduler cannot be given the steps.
    """

    def __init__(self, pipeline: DiffusionPipeline):
        self.name, self.pipeline = type(pipeline).__name__, _quiet(pipeline)
        accepted = _accepted(pipeline.__call__)
        missing = [name for name in NEEDED if name not in accepted]
        missing += [name for name in ('vae', 'image_processor') if not hasattr(pipeline, name)]
        if missing:
            raise ValueError(
                f'{self.name} has no {", ".join(missing)}; expected an image-to-image pipeline like '
                'StableDiffusion3Img2ImgPipeline'
            )
        steps = pipeline.scheduler.set_timesteps
        if self._steps_name not in accepted & _accepted(steps) or getattr(pipeline.scheduler, 'order', 1) != 1:
            raise ValueError(
                f'{self.name} cannot tell its {self._scheduler_name} at which {self._steps_name} to call the denoiser '
                'once each; name another in scheduler/scheduler_config.json, such as EulerDiscreteScheduler'
            )

    @property
    def multiple(self) -> int:
        """Image height and width must be multiples of this."""
        config = self.denoiser.config
        if 'block_out_channels' in config:
            cells = 2 ** (len(config.block_out_channels) - 1)
        else:
            cells = config.get('patch_size', 1)
        # Pipelines that pack cells in pairs (FLUX) say so to their image processor alone.
        return lcm(self.pipeline.vae_scale_factor * cells, self.pipeline.image_processor.config.vae_scale_factor)

    @property
    def takes_conditions(self) -> bool:
        """No: their ControlNet forms cannot be told the timesteps."""
        return False

    @property
    def T_max(self) -> int:  # noqa: N802 (the paper's symbol)
        """Number of training timesteps; T = T_max is pure noise, whatever the source."""
        return self.pipeline.scheduler.config.num_train_timesteps

    def planned_timesteps(self, T: int, num_calls: int, grid: str = GRID, solver: str = SOLVER) -> list[int]:
        """The timesteps of the denoising calls, rounded.

        Where a pipeline shifts them by the image's size (FLUX), these are those of small images; what was walked stands
        in ``Creation.timesteps``.

        Raises:
            ValueError: A grid or solver of :class:`.LatentDiffusion`; T or the number of calls are impossible, see
                :func:`.timestep_grid`; the scheduler refuses the steps; T is T_max and there is no text-to-image form.
        """
        if (grid, solver) != (GRID, SOLVER):
            raise ValueError(
                f'{self.name} steps with its own {self._scheduler_name}: set grid={GRID!r} and solver={SOLVER!r} in '
                f'stages.synthesis (--solver {SOLVER}); found grid={grid!r} and solver={solver!r}'
            )
        scheduler = self.pipeline.scheduler
        steps: dict[str, Any] = self._steps(T, num_calls)
        if scheduler.config.get('use_dynamic_shifting'):
            steps['mu'] = scheduler.config.base_shift
        scheduler.set_timesteps(**steps)
        planned = [round(float(t)) for t in scheduler.timesteps]
        if len(planned) != num_calls:
            raise ValueError(f'{self._scheduler_name} makes {len(planned)} calls where {num_calls} are asked for')
        if T == self.T_max:
            self._from_noise  # noqa: B018 (raises)
        return planned

    @torch.no_grad()
    def create(
        self,
        images: Tensor | None = None,
        *,
        captions: Sequence[str],
        seeds: Sequence[int],
        T: int = 600,
        num_calls: int = 20,
        grid: str = GRID,
        solver: str = SOLVER,
        guidance_scale: float = 1.0,
        size: tuple[int, int] | None = None,
        conditions: Tensor | None = None,
    ) -> Creation:
        """Creates one image per caption and seed.

        The pipelines' own ``strength`` decides the number of calls as well; here the steps are given one by one, so
        that as many are made as asked for, from the noise level asked for:

        - diffusion (SDXL): the even grid of :func:`.timestep_grid`, from timestep T;
        - flow matching (SD3, FLUX): noise shares from T / T_max down to T / T_max / num_calls, which the scheduler
          then shifts as the model was trained. Its shift makes T noisier: with SD3's, T = 600 starts at timestep 818,
          as ``strength=0.6`` does.

        Args:
            images: Sources, RGB in [-1, 1], (B, 3, H, W); None for images from pure noise.
            captions: One per sample.
            seeds: One per sample; every random number of a sample comes from its own seed.
            T: Noise level, 1 … T_max; at T_max the text-to-image pipeline of the same parts draws pure noise.
            num_calls: Denoising calls that are made.
            grid: ``even``.
            solver: ``pipeline``: its own scheduler.
            guidance_scale: As the pipeline understands it: for most 1 or less switches guidance off; FLUX.1-dev was
                trained with the number as an input.
            size: Image size (H, W) where there is no source.
            conditions: None.

        Returns:
            Images, the timesteps that were really walked, and the last latents as the pipeline has them.

        Raises:
            ValueError: As :meth:`planned_timesteps`; images, captions and seeds do not fit each other; conditions.
            RuntimeError: The pipeline made another number of calls, or drew noise that belongs to no seed.
        """
        self.planned_timesteps(T, num_calls, grid, solver)
        if conditions is not None:
            raise ValueError(NO_BRANCH.format(f'{self.name} is used without a ControlNet'))
        check_request(self.T_max, self.multiple, images, captions, seeds, T, size)
        height, width = size if images is None else images.shape[-2:]
        pipeline = self._from_noise if T == self.T_max else self.pipeline
        options: dict[str, Any] = self._steps(T, num_calls) | dict(height=height, width=width)
        if T < self.T_max:
            options |= dict(image=(images.to(self.denoiser.device).float() + 1) / 2, strength=1.0)
        accepted = _accepted(pipeline.__call__)
        walked: list[Tensor] = []
        latents: list[Tensor] = []

        def step_ended(_pipeline: DiffusionPipeline, _step: int, t: Tensor, state: dict) -> dict:
            walked.append(t)
            latents[:] = [state['latents']]
            return {}

        calls: list[None] = []
        counter = self.denoiser.register_forward_pre_hook(lambda *_: calls.append(None))
        before = _random_states(self.denoiser.device)
        try:
            made = pipeline(
                prompt=list(captions),
                num_inference_steps=num_calls,
                guidance_scale=guidance_scale,
                generator=generators_of(seeds),
                output_type='pt',
                callback_on_step_end=step_ended,
                **{name: value for name, value in options.items() if name in accepted},  # sizes follow from the image
            ).images
        finally:
            counter.remove()
        if not len(calls) == len(walked) == num_calls:
            raise RuntimeError(
                f'{type(pipeline).__name__} made {len(calls)} calls in {len(walked)} steps, {num_calls} were asked for'
            )
        if any(not torch.equal(a, b) for a, b in zip(before, _random_states(self.denoiser.device), strict=True)):
            raise RuntimeError(
                f'{self._scheduler_name} draws noise that no seed decides, so samples could not be made again; name '
                'one without noise in scheduler/scheduler_config.json'
            )
        return Creation(made.float() * 2 - 1, latents[0], [round(float(t)) for t in walked])

    def caption_flaws(self, captions: Sequence[str]) -> CaptionFlaws:
        """Parts of the captions that none of the text encoders ever sees."""
        parts = self.pipeline.components.items()
        return caption_flaws(
            [part for name, part in parts if name.startswith('tokenizer') and part is not None], captions
        )

    def weights_hash(self) -> str:
        """SHA-256 over the parameters of all parts, the kind of pipeline, its scheduler, the latent's scale, and what
        :func:`.foreign_vocabulary` gives."""
        scheduler = self.pipeline.scheduler
        known = _accepted(type(scheduler))
        meaning = {name: value for name, value in scheduler.config.items() if name in known}
        vae = self.pipeline.vae.config
        scale = [vae.get(name) for name in ('scaling_factor', 'shift_factor', 'latents_mean', 'latents_std')]
        text = [self.name, self._scheduler_name, meaning, scale]
        digest = hashlib.sha256(json.dumps(text, sort_keys=True, default=str).encode())
        for name, part in sorted(self.pipeline.components.items()):
            if isinstance(part, nn.Module):
                add_tensors(digest, {f'{name}.{key}': tensor for key, tensor in part.state_dict().items()})
            elif name.startswith('tokenizer') and part is not None:
                digest.update(foreign_vocabulary(part).encode())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> Self:
        """Moves all parts; returns itself."""
        self.pipeline.to(device)
        return self

    @property
    def denoiser(self) -> nn.Module:
        """The pipeline's transformer or U-Net."""
        return getattr(self.pipeline, 'transformer', None) or self.pipeline.unet

    @cached_property
    def _from_noise(self) -> DiffusionPipeline:
        try:
            return _quiet(AutoPipelineForText2Image.from_pipe(self.pipeline))
        except ValueError as error:
            raise ValueError(f'{self.name} has no text-to-image form ({error}); choose T below {self.T_max}') from error

    @property
    def _scheduler_name(self) -> str:
        return type(self.pipeline.scheduler).__name__

    @property
    def _steps_name(self) -> str:
        """The argument that takes steps: timesteps, or shares of noise where the scheduler is one of flow matching."""
        return 'timesteps' if hasattr(self.pipeline.scheduler, 'alphas_cumprod') else 'sigmas'

    def _steps(self, T: int, num_calls: int) -> dict[str, list]:
        timesteps = timestep_grid(T, num_calls, GRID, self.T_max).timesteps
        if self._steps_name == 'timesteps':
            return {'timesteps': timesteps}
        return {'sigmas': [T / self.T_max * (1 - i / num_calls) for i in range(num_calls)]}


def _accepted(function: Callable) -> set[str]:
    return set(inspect.signature(function).parameters)


def _quiet(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """Fit for making training images: no bars of its own, no dropout, no watermark hidden in the pixels (SDXL)."""
    pipeline.set_progress_bar_config(disable=True)
    if hasattr(pipeline, 'watermark'):
        pipeline.watermark = None
    vae = getattr(pipeline, 'vae', None)
    if vae is not None and vae.dtype == torch.float32:
        vae.register_to_config(force_upcast=False)  # there is nothing to cast, and diffusers warns at every attempt
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def _random_states(device: torch.device) -> list[Tensor]:
    """Of the generators that everybody shares."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == 'cuda' else [])]
