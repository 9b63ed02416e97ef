"""One image's part in the F-measure of edges: counts at each threshold. H, W: image size; T thresholds."""

from collections.abc import Sequence

import numpy as np

from mmdiff2in1.core.region_borders import region_borders
from mmdiff2in1.core.thinning import thin

from .edge_matching import matched
from .edge_nms import suppressed

THRESHOLDS = (0.001, *(step / 100 for step in range(1, 100)), 0.999)
"""The 101 of HED's protocol."""


def counts_of_image(
    written: np.ndarray,
    labels: np.ndarray,
    known: np.ndarray | None = None,
    max_distance: float = 0.0075,
    thresholds: Sequence[float] = THRESHOLDS,
) -> np.ndarray:
    """Counts (T, 4) of a prediction against the contours of a label image, see `edge_counts`.

    Args:
        written: (H, W) uint8, the probabilities times 255, cut off, as they are written to a PNG.
        labels: (H, W), any numbers; contours are thinned `region_borders`.
        known: bool (H, W); predictions elsewhere do not count. None: everywhere.
        max_distance: See `edge_counts`.
        thresholds: T.
    """
    contours = thin(region_borders(labels, known))
    strength = suppressed(written / 255)
    if known is not None:
        strength = strength * known
    return edge_counts(strength, [contours], max_distance, thresholds)


def edge_counts(
    strength: np.ndarray, truths: Sequence[np.ndarray], max_distance: float, thresholds: Sequence[float] = THRESHOLDS
) -> np.ndarray:
    """int64 (T, 4): matched and all true pixels, matched and all predicted pixels.

    At each threshold what is strictly above is thinned and matched with each of the truths. Of several (BSDS), all
    their pixels count as true, and a predicted pixel as matched if it is with one of them.

    Args:
        strength: (H, W) after `suppressed`.
        truths: bool (H, W) each, thin.
        max_distance: Share of the image diagonal; pixels at most so far apart match. PASCAL-Context and BSDS 0.0075,
            NYUD-MT 0.011.
        thresholds: T, in any order.
    """
    distance = max_distance * float(np.hypot(*strength.shape))
    of_pixels: dict[int, list[int]] = {}  # masks at different thresholds contain each other: equal size is equal mask
    counts = []
    for threshold in thresholds:
        above = strength > threshold
        size = int(above.sum())
        if size not in of_pixels:
            of_pixels[size] = _counts(thin(above), truths, distance)
        counts.append(of_pixels[size])
    return np.array(counts, np.int64).reshape(len(thresholds), 4)


def _counts(predicted: np.ndarray, truths: Sequence[np.ndarray], distance: float) -> list[int]:
    found, used = 0, np.zeros_like(predicted)
    for truth in truths:
        of_truth, of_prediction = matched(truth, predicted, distance)
        found += int(of_truth.sum())
        used |= of_prediction
    return [found, sum(int(truth.sum()) for truth in truths), int(used.sum()), int(predicted.sum())]
