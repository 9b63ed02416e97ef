"""Pools of created images: the samples of a recipe from the labelled images."""

from collections.abc import Iterator

import numpy as np
import torch
from images.creation import CreationSettings, KeptImages
from images.pools import Pool

from mmdiff2in1.captions import recombined
from mmdiff2in1.core.randomness import derived_seed

from .arms import MAX_SAMPLES, Creation

CREATION = CreationSettings(num_calls=10, batch_size=16)


def created_pool(maker: KeptImages, source: Pool, recipe: Creation, seed: int) -> Pool:
    """The samples of ``recipe``; they have no targets, because θ_C labels them."""
    count = min(recipe.per_image * len(source), MAX_SAMPLES)
    captions = list(_captions(source, recipe, count, seed))
    # The samples of one source take the levels in turn, and the sources do not start at the same one.
    levels = np.array([recipe.T[(i + i // len(source)) % len(recipe.T)] for i in range(count)])
    sources = source.images.permute(0, 2, 3, 1).numpy()
    images = np.empty((count, *sources.shape[1:]), np.uint8)
    for T in np.unique(levels).tolist():
        chosen = np.flatnonzero(levels == T)
        seeds = [derived_seed('experiment', seed, int(i)) for i in chosen]
        images[chosen] = maker(sources[chosen % len(source)], [captions[i] for i in chosen], seeds, T)
    return Pool(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), {}, captions)


def _captions(source: Pool, recipe: Creation, count: int, seed: int) -> Iterator[str]:
    steps = np.random.default_rng([seed, 2]).integers(
        1, max(2, len(source)), size=count
    )  # never 0: never its own things
    for i, step in enumerate(steps):
        own, other = (source.captions[place % len(source)] for place in (i, i + step))
        yield recombined(other, own) if recipe.recombined else own
