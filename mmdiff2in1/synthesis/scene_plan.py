"""Recipes of new scenes: under captions that no labelled image has, from noise or from noised images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmdiff2in1.captions.new_scenes import SceneCaptions

from .plan import Source, creation_size, make_plan, timestep_choices
from .recipe import SampleRecipe


def scene_plan(
    scenes: SceneCaptions,
    sources: Sequence[Source],
    *,
    T: int | str | Sequence[int] | Mapping[str, int],
    T_max: int,
    num_samples: int | None = None,
    samples_per_image: int | None = None,
    seed: int = 0,
    size: int | Sequence[int] | None = None,
    weights: Mapping[str, float] | None = None,
    multiple: int,
    **options: Any,
) -> list[SampleRecipe]:
    """List the samples to make; a smaller `num_samples` is the beginning of a larger one.

    At T = T_max (T = 'noise') there are `num_samples` images from noise without a source, one under each caption; a
    caption that comes again has the next seed. Their (H, W) is that of most sources where `size` is None or the length
    of a side. At any other T, a list or a range, the plan is that of `make_plan` with another caption for each sample.
    `options`: the other arguments of `make_plan`.

    Raises ValueError for `samples_per_image` or `weights` of sources from noise, and what `make_plan` raises.
    """
    levels = timestep_choices(T, T_max)
    if set(levels) != {T_max}:
        options |= dict(num_samples=num_samples, samples_per_image=samples_per_image, seed=seed)
        plan = make_plan(sources, T=levels, size=size, weights=weights, multiple=multiple, **options)
        captions = scenes.around([recipe.caption for recipe in plan])
        return [replace(recipe, caption=caption) for recipe, caption in zip(plan, captions, strict=True)]
    if num_samples is None or samples_per_image is not None or num_samples < 1:
        raise ValueError(
            f'num_samples is {num_samples} and samples_per_image is {samples_per_image}, but new scenes from noise '
            '(T = T_max) belong to no image; expected num_samples of 1 or more, and no samples_per_image'
        )
    if weights is not None:
        raise ValueError(
            'resample says from which images to create more often, but new scenes from noise (T = T_max) belong to no '
            'image; leave it out, or choose a smaller T'
        )
    ranked = Counter(source.native_size for source in sources).most_common()
    native = min(each for each, count in ranked if count == ranked[0][1]) if ranked else (1, 1)
    if not ranked and (size is None or isinstance(size, int)):
        raise ValueError(f'size is {size} and there are no images to take it from; expected [height, width]')
    recipes, told = [], Counter[str]()
    for caption in scenes.captions(num_samples):
        recipes.append(
            SampleRecipe(
                source=None,
                caption=caption,
                seed=seed + told[caption],
                T=T_max,
                size=creation_size(native, size, multiple),
                **options,
            )
        )
        told[caption] += 1
    return recipes
