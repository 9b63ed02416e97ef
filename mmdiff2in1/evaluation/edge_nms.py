"""Non-maximum suppression of edge maps across the edge, as SEISM and Dollár's edge detectors define it.

H, W: size of a map; O: orientation in [0, π), the direction across the edge.
"""

import numpy as np

RADIUS = 4
MARGIN = 1.01
BORDER = 5


def suppressed(probability: np.ndarray) -> np.ndarray:
    """The map (H, W), float64, with zeros where a neighbour across the edge is stronger; weaker towards the border.

    A pixel stays if 1.01 times its value is at least that of both points at distance 1 along O, bilinear in the map
    itself. Then the outer five rows and columns are multiplied by 0, 1/5 … 4/5 from the outside.

    Args:
        probability: (H, W) in [0, 1].
    """
    values = probability.astype(np.float64)
    rows, columns = np.nonzero(values)
    angle = orientation(values)[rows, columns]
    own = MARGIN * values[rows, columns]
    stays = np.ones(len(rows), bool)
    for sign in (-1, 1):
        stays &= own >= _bilinear(values, rows + sign * np.sin(angle), columns + sign * np.cos(angle))
    kept = np.zeros_like(values)
    kept[rows[stays], columns[stays]] = values[rows[stays], columns[stays]]
    height, width = values.shape
    return kept * _damping(height)[:, None] * _damping(width)


def orientation(values: np.ndarray) -> np.ndarray:
    """O (H, W) = atan(O_yy sign(-O_xy) / (O_xx + 1e-5)) mod π, of the second derivatives of the smoothed map.

    Derivatives are central differences, one-sided at the border; x points east, y south.
    """
    dy, dx = np.gradient(triangle_filter(values))
    dxx = np.gradient(dx, axis=1)
    dyy, dxy = np.gradient(dy)
    return np.mod(np.arctan(dyy * np.sign(-dxy) / (dxx + 1e-5)), np.pi)


def triangle_filter(values: np.ndarray, radius: int = RADIUS) -> np.ndarray:
    """Weights 1 … r + 1 … 1 over their sum (r + 1)², along both axes; beyond the border the map is mirrored."""
    weights = np.concatenate([np.arange(1, radius + 2), np.arange(radius, 0, -1)]) / (radius + 1) ** 2
    for axis in (0, 1):
        padded = np.pad(values, [(radius, radius) if each == axis else (0, 0) for each in (0, 1)], mode='symmetric')
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=axis)
        values = windows @ weights
    return values


def _bilinear(values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values (N,) at the points (y, x); points outside count as the nearest inside."""
    height, width = values.shape
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = np.minimum(y.astype(np.intp), height - 2), np.minimum(x.astype(np.intp), width - 2)
    down, right = y - top, x - left
    upper = values[top, left] * (1 - right) + values[top, left + 1] * right
    lower = values[top + 1, left] * (1 - right) + values[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def _damping(length: int) -> np.ndarray:
    """Factors (length,) of the rows or columns."""
    place = np.arange(length)
    return np.minimum(np.minimum(place, place[::-1]) / min(BORDER, max(length / 2, 1)), 1)
