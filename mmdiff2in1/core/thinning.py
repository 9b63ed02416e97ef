"""Thinning of masks to lines of one pixel: Guo and Hall (1989), algorithm A1, as MATLAB's `bwmorph(…, 'thin', Inf)`.

A pixel's neighbours x1 … x8 are numbered from the east against the clock: E, NE, N, NW, W, SW, S, SE; x9 = x1.
"""

import numpy as np

ROWS = (0, -1, -1, -1, 0, 1, 1, 1)
COLUMNS = (1, 1, 0, -1, -1, -1, 0, 1)


def thin(mask: np.ndarray) -> np.ndarray:
    """The mask (H, W) without the pixels that its lines do not need: connected parts stay connected, holes stay holes.

    Two passes in turn delete all pixels at once that their table names, until none is left to delete.
    """
    padded = np.pad(np.asarray(mask, bool), 1)
    flat = padded.reshape(-1)
    offsets = np.array(ROWS) * padded.shape[1] + np.array(COLUMNS)
    pixels, before = np.flatnonzero(flat), -1
    while len(pixels) != before:
        before = len(pixels)
        for table in _TABLES:
            gone = table[flat[pixels[:, None] + offsets] @ _BITS]
            flat[pixels[gone]] = False
            pixels = pixels[~gone]
    return padded[1:-1, 1:-1].copy()


def _table(first: bool) -> np.ndarray:
    """bool (256,): whether a pixel with these neighbours, bit i - 1 for x_i, is deleted in the first or second pass."""
    x = np.array([[number >> bit & 1 for bit in range(8)] for number in range(256)], bool)
    odd, even, next_odd = x[:, 0::2], x[:, 1::2], np.roll(x[:, 0::2], -1, axis=1)
    one_part = (~odd & (even | next_odd)).sum(1) == 1
    least = np.minimum((odd | even).sum(1), (even | next_odd).sum(1))
    east, ne, north, _, west, sw, south, se = x.T
    nw = x[:, 3]
    side = (ne | north | ~se) & east if first else (sw | south | ~nw) & west
    return one_part & (least >= 2) & (least <= 3) & ~side


_BITS = 1 << np.arange(8)
_TABLES = (_table(first=True), _table(first=False))
