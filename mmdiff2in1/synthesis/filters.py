"""Scores of a created image that need nothing but pixels, and thresholds on them.

H, W image size; images are uint8 RGB (H, W, 3).
"""

import math
from collections.abc import Mapping

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

SCORES = ('source_distance', 'contrast')

# {score: (lowest, highest) allowed}, None = no limit on that side.
Thresholds = Mapping[str, tuple[float | None, float | None]]


def source_distance(created: np.ndarray, source: np.ndarray) -> float:
    """Root mean square of the difference over all pixels and channels, in grey levels 0 … 255.

    Near 0 the sample repeats its source; far above what the other samples show, it has left the scene.

    Raises ValueError for two sizes.
    """
    if created.shape != source.shape:
        raise ValueError(f'created image is {created.shape}, source is {source.shape}; expected equal shapes')
    return float(np.sqrt(np.mean((created.astype(np.float64) - source.astype(np.float64)) ** 2)))


def contrast(created: np.ndarray) -> float:
    """Standard deviation of the luma over the image, 0 … 127.5 grey levels; near 0 the image is one flat colour."""
    return float(np.std(created.astype(np.float64) @ LUMA))


def score(created: np.ndarray, source: np.ndarray | None) -> dict[str, float]:
    """All scores of one sample, rounded to 1/1000 grey level; without a source there is no `source_distance`."""
    scores = {} if source is None else {'source_distance': source_distance(created, source)}
    scores['contrast'] = contrast(created)
    return {name: round(value, 3) for name, value in scores.items()}


def check_thresholds(thresholds: Thresholds | None) -> None:
    """ValueError for an unknown score or a limit that is not a (lowest, highest) pair."""
    for name, limits in (thresholds or {}).items():
        if name not in SCORES:
            raise ValueError(f'unknown filter {name!r}; known: {", ".join(SCORES)}')
        if not isinstance(limits, (tuple, list)) or len(limits) != 2:
            raise ValueError(f'filter {name} is {limits!r}, expected (lowest, highest) with None for no limit')
        low, high = limits
        if any(limit is not None and not math.isfinite(limit) for limit in limits):
            raise ValueError(f'filter {name} is {limits!r}, expected finite numbers, or None for no limit')
        if low is not None and high is not None and low > high:
            raise ValueError(f'filter {name} is {limits!r}: the lowest is above the highest, nothing would pass')


def rejection(scores: Mapping[str, float], thresholds: Thresholds | None) -> str | None:
    """Why a sample with these scores is refused, or None if it is kept."""
    for name, (low, high) in (thresholds or {}).items():
        if name not in scores:
            continue
        if low is not None and scores[name] < low:
            return f'{name} {scores[name]:g} is below {low:g}'
        if high is not None and scores[name] > high:
            return f'{name} {scores[name]:g} is above {high:g}'
    return None
