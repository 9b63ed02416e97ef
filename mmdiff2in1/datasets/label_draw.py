"""The data-efficiency setting of the paper: a seeded draw of the labelled images of a part."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def draw_labelled(samples: Sequence[dict], num_labelled: int | None, seed: int, part: str) -> list[dict]:
    """`num_labelled` of the samples, drawn without replacement, in their order; None: all of them.

    A smaller draw with the same seed is contained in a larger one, so sizes can be compared.

    Args:
        samples: Of the whole part.
        num_labelled: How many.
        seed: Of the draw.
        part: What the part is called in the error.

    Raises:
        ValueError: `num_labelled` is no integer, below 1 or above the number of samples; a seed that is none.
    """
    if num_labelled is None:
        return list(samples)
    if not _is_integer(num_labelled) or not 1 <= num_labelled <= len(samples):
        raise ValueError(f'num_labelled={num_labelled!r}: expected 1 to {len(samples)}, the number of images in {part}')
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f'subset_seed={seed!r}: expected an integer of 0 or more')
    # The first entries of one permutation: a smaller draw is contained in a larger one.
    order = np.random.default_rng(seed).permutation(len(samples))
    return [samples[i] for i in sorted(order[:num_labelled])]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
