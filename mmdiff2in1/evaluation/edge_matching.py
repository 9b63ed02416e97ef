"""Which pixels of two contours belong together: a maximum matching of those that are near each other.

N true contour pixels, M predicted ones; D offsets within the distance that is allowed.

The published tool solves a minimum-cost assignment in which a pair costs at most `maxDist` and two pixels without
partner 200 times that, so its solutions have as many pairs as possible. Only the number of pairs counts, and any
maximum matching has it: Hopcroft and Karp (1973), from a start in which near pairs come first, needs a few phases.
"""

import numpy as np

GONE = np.iinfo(np.int64).max
"""Level of a node from which no free partner is reached any more."""


def matched(truth: np.ndarray, predicted: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """bool (H, W) twice: the pixels of both contours that have a partner.

    Args:
        truth: bool (H, W).
        predicted: bool (H, W).
        distance: Pixels; pairs at most so far apart may be matched.

    Raises:
        ValueError: Masks of different sizes.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f'the true contours are {truth.shape}, the predicted ones {predicted.shape}; expected one size'
        )
    links = near_pixels(truth, predicted, distance)
    partner = maximum_matching(links, int(predicted.sum()))
    found, used = np.zeros_like(truth, bool), np.zeros_like(predicted, bool)
    found[truth] = partner >= 0
    taken = np.zeros(int(predicted.sum()), bool)
    taken[partner[partner >= 0]] = True
    used[predicted] = taken
    return found, used


def near_pixels(truth: np.ndarray, predicted: np.ndarray, distance: float) -> np.ndarray:
    """int32 (N, D): for each true pixel, in row order, the number of the predicted pixel at each offset, or -1.

    The offsets are sorted by their length, the nearest first.
    """
    reach = int(distance)
    side = np.arange(-reach, reach + 1)
    dy, dx = (each.ravel() for each in np.meshgrid(side, side, indexing='ij'))
    squared = dy**2 + dx**2
    order = np.argsort(squared, kind='stable')
    order = order[squared[order] <= distance**2]
    number = np.full(predicted.shape, -1, np.int32)
    number[predicted] = np.arange(predicted.sum(), dtype=np.int32)
    number = np.pad(number, reach, constant_values=-1)
    rows, columns = np.nonzero(truth)
    return number[rows[:, None] + reach + dy[order], columns[:, None] + reach + dx[order]]


def maximum_matching(links: np.ndarray, count: int) -> np.ndarray:
    """int64 (N,): the partner of each left node, or -1; no matching of these links has more pairs.

    Args:
        links: (N, D) right nodes that a left one may have, the preferred ones first; -1 is none. In one column no
            right node occurs twice.
        count: M, right nodes.
    """
    left, right = np.full(len(links), -1, np.int64), np.full(count, -1, np.int64)
    for column in links.T:
        fits = np.flatnonzero((column >= 0) & (left < 0))
        fits = fits[right[column[fits]] < 0]
        left[fits] = column[fits]
        right[column[fits]] = fits
    while (level := _levels(links, left, right)) is not None:
        _augment(links, left, right, level)
    return left


def _levels(links: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """int64 (N,): steps of alternating paths from a left node without partner to each; None: no path ends free."""
    level = np.full(len(links), GONE)
    seen = np.zeros(len(right), bool)
    frontier, depth = np.flatnonzero(left < 0), 0
    while len(frontier):
        level[frontier] = depth
        reached = links[frontier]
        reached = reached[reached >= 0]
        reached = np.unique(reached[~seen[reached]])
        seen[reached] = True
        owners = right[reached]
        if (owners < 0).any():
            return level
        frontier, depth = owners, depth + 1
    return None


def _augment(links: np.ndarray, left: np.ndarray, right: np.ndarray, level: np.ndarray) -> None:
    """Turns a maximal set of shortest alternating paths around, each of which adds a pair; depth first, in place."""
    rows: dict[int, list[int]] = {}
    owner, steps = right.tolist(), level.tolist()
    place: dict[int, int] = {}
    for start in np.flatnonzero(left < 0).tolist():
        path = [start]
        while path:
            node = path[-1]
            if node not in rows:
                row = links[node]
                rows[node] = row[row >= 0].tolist()
            position = place.get(node, 0)
            if position == len(rows[node]):
                steps[path.pop()] = GONE
                continue
            place[node] = position + 1
            other = owner[rows[node][position]]
            if other < 0:
                for each in path:
                    target = rows[each][place[each] - 1]
                    owner[target] = each
                    left[each], right[target] = target, each
                    steps[each] = GONE
                break
            if steps[other] == steps[node] + 1:
                path.append(other)
