"""Layouts within a synthesis: what composes the images of a plan, before or without a generator.

H, W image size; images are uint8 RGB (H, W, 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from mmseg.registry import TASK_UTILS

from mmdiff2in1.core.images import from_model, resize_image, to_model

from .conditions import ComposedPictures
from .layouts import Composed, Composer, LabelledSamples, Layout
from .recipe import SampleRecipe

if TYPE_CHECKING:
    from mmdiff2in1.generators import Generator
    from mmdiff2in1.generators.caption_flaws import CaptionFlaws


class NoGenerator:
    """Stands where a generator would, if nothing is redrawn: no weights are looked for, loaded or hashed."""

    multiple = 1
    T_max = 0
    takes_conditions = False
    denoiser = None

    def planned_timesteps(self, T: int, num_calls: int, grid: str, solver: str) -> list[int]:
        """Raises ValueError: there is nothing that could redraw."""
        raise ValueError(f'T={T} asks a generator to redraw what a layout composes; set diffusion, or T=0')

    def create(self, *args: Any, **kwargs: Any) -> Any:
        """See `planned_timesteps`."""
        raise ValueError('nothing can be created without a generator; set diffusion')

    def caption_flaws(self, captions: Sequence[str]) -> 'CaptionFlaws':
        """See `planned_timesteps`."""
        raise ValueError('nothing reads captions without a generator; set diffusion')

    def weights_hash(self) -> str:
        """Of nothing."""
        return ''

    def to(self, device: Any) -> 'NoGenerator':
        """Itself."""
        return self


@dataclass(frozen=True)
class Composing:
    """A layout and the labelled samples that it composes of; it studies them when first asked."""

    layout: Layout
    samples: LabelledSamples

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Identity of the samples beside source and seed: settings of the layout, and a hash of all that it reads."""
        return dict(self.layout.settings, samples=self.samples.digest)

    @cached_property
    def composer(self) -> Composer:
        """Of this training set."""
        return self.layout.study(self.samples)

    def compose(self, batch: Sequence[SampleRecipe]) -> list[Composed]:
        """Composed samples that the recipes ask for, before anything is redrawn; T changes nothing of them."""
        return [self.composer.compose(str(recipe.source), recipe.seed) for recipe in batch]

    def encoded(self, composed: Composed) -> dict[str, np.ndarray]:
        """The labels as they are stored, by task, each in its own encoding; none where nothing is known."""
        tasks = self.samples.tasks
        known = {task: array for task, array in composed.labels.items() if tasks[task].known(array).any()}
        return {task: tasks[task].encode(array) for task, array in known.items()}


def layout_of(settings: Any) -> Layout:
    """The layout of a config.

    Raises ValueError for something else.
    """
    layout = settings if isinstance(settings, Layout) else TASK_UTILS.build(settings)
    if not isinstance(layout, Layout):
        raise ValueError(f"layout is {layout!r}, expected a registered layout, e.g. dict(type='ObjectPaste')")
    return layout


def redrawn(
    diffusion: 'Generator',
    batch: Sequence[SampleRecipe],
    composed: Sequence[Composed],
    pictures: ComposedPictures | None = None,
) -> tuple[list[np.ndarray], list[int]]:
    """The images of one batch (equal `batch_key`), each of the size of its source, and the timesteps that were walked.

    At T = 0 they are as they were composed. Else a generator redraws them under their captions at the size of creation,
    and where they may not be redrawn the composed pixels stay. With `pictures` a ControlNet is shown their labels.
    """
    first = batch[0]
    if first.T == 0:
        return [each.image for each in composed], []
    shown = None
    if pictures is not None:
        drawn = [pictures.picture(each, recipe.size) for each, recipe in zip(composed, batch, strict=True)]
        shown = (to_model(drawn) + 1) / 2
    creation = diffusion.create(
        to_model([resize_image(each.image, recipe.size) for each, recipe in zip(composed, batch, strict=True)]),
        captions=[each.caption for each in composed],
        seeds=[recipe.noise_seed for recipe in batch],
        T=first.T,
        num_calls=first.num_calls,
        grid=first.grid,
        solver=first.solver,
        guidance_scale=first.guidance_scale,
        size=first.size,
        conditions=shown,
    )
    images = from_model(creation.images)
    sized = [resize_image(image, each.image.shape[:2]) for image, each in zip(images, composed, strict=True)]
    return [each.redrawn(image) for image, each in zip(sized, composed, strict=True)], creation.timesteps


def facts_of(composed: Composed, recipe: SampleRecipe) -> dict[str, Any]:
    """Additional facts for the record of a composed sample: the caption of what is seen in it, and what was pasted.

    The caption of the recipe, which belongs to the source, is kept as `source_caption`.
    """
    return dict(caption=composed.caption, source_caption=recipe.caption, pasted=composed.pasted)
