"""Where the regions of a label image meet."""

import numpy as np


def region_borders(labels: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """bool (H, W): pixels that differ from their neighbour in the east, the south or the south-east.

    So a border between two pixels lies on the upper or left one, as in SEISM's and BSDS's label images. The last row
    has neighbours in the east only, the last column in the south only, the last corner none.

    Args:
        labels: (H, W), numbers of any type.
        known: bool (H, W); what differs from an unknown pixel, or is one, is no border. None: all are known.
    """
    borders = np.zeros(labels.shape, bool)
    known = np.ones(labels.shape, bool) if known is None else known
    everything, but_last, but_first = slice(None), slice(None, -1), slice(1, None)
    for here, there in (
        ((everything, but_last), (everything, but_first)),
        ((but_last, everything), (but_first, everything)),
        ((but_last, but_last), (but_first, but_first)),
    ):
        borders[here] |= (labels[here] != labels[there]) & known[here] & known[there]
    return borders
