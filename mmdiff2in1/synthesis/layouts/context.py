"""Where things of a class occur: what they border on, how high in the picture, and how large they are there.

Learned from the regions of the labelled maps; H, W: image size; N places; M examples of a class; K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .objects import Region
from .outline import SIDES, Outline

WEIGHTS = dict(below=0.5, beside=0.25, above=0.25)
"""Of the sides in a difference: what something stands on says most."""
ROW_SCALE, SIZE_SCALE = 0.5, 2.0
"""A difference in rows, as a share of H, and in the logarithm of the size, that count as other neighbours on all
sides."""
STRICT, LOOSE = 0.1, 0.3
"""Differences that are always, and never, as small as those among real examples."""
QUANTILE = 0.8
SELDOM = 25
"""One more of the nearest examples must be alike for every so many that a class has."""
PRIOR = 0.05
"""How much of squared rows (shares of H) outweighs a class's own sizes by those of all things: about 20 of them."""


@dataclass(frozen=True)
class Example:
    """A real region: its row of the foot and its size (the square root of its area), as shares of H, its contacts
    (3, K), and whether it lies within its image."""

    row: float
    size: float
    contacts: np.ndarray
    whole: bool


class Context:
    """Surroundings of the examples of all classes.

    Args:
        examples: By class; each at least one.
        num_classes: K.
    """

    def __init__(self, examples: Mapping[int, Sequence[Example]], num_classes: int) -> None:
        self.num_classes = num_classes
        self._rows = {label: np.array([each.row for each in known]) for label, known in examples.items()}
        self._sizes = {label: np.log([each.size for each in known]) for label, known in examples.items()}
        self._contacts = {label: np.stack([each.contacts for each in known]) for label, known in examples.items()}
        self._growth = _growth(examples)
        self.limits = {label: self._limit(label) for label in examples}

    def rows(self, label: int) -> np.ndarray:
        """Where the feet of a class's examples are, (M,), shares of H."""
        return self._rows[label]

    def zoom(self, label: int, from_row: float, to_rows: np.ndarray) -> np.ndarray:
        """How much larger a thing of that class looks at other rows of its foot (N,), shares of H, by perspective."""
        return np.exp(self._growth[label] * (to_rows - from_row))

    def difference(self, label: int, rows: np.ndarray, sizes: np.ndarray, contacts: np.ndarray) -> np.ndarray:
        """How different places (N,) are from the examples of the class that are most alike; 0: just as they.

        Of many examples the k-th nearest counts, see `SELDOM`, so that what was seen once is no model.

        `rows` and `sizes` (N,) are shares of H, `contacts` (N, 3, K).
        """
        return _nearest(self._differences(label, rows, np.log(sizes), contacts))

    def _differences(self, label: int, rows: np.ndarray, sizes: np.ndarray, contacts: np.ndarray) -> np.ndarray:
        """(N, M): total variation of the neighbours, weighted over the sides, and what row and size differ."""
        apart = (
            0.5
            * np.abs(contacts[:, None] - self._contacts[label][None]).sum(-1)
            @ np.array([WEIGHTS[side] for side in SIDES])
        )
        apart += np.abs(rows[:, None] - self._rows[label][None]) / ROW_SCALE
        return apart + np.abs(sizes[:, None] - self._sizes[label][None]) / SIZE_SCALE

    def _limit(self, label: int) -> float:
        """Difference that most real examples of a class have from their like, within bounds; loose for few examples."""
        among = self._differences(label, self._rows[label], self._sizes[label], self._contacts[label])
        if len(among) < 2:
            return LOOSE
        np.fill_diagonal(among, np.inf)
        return float(np.clip(np.quantile(_nearest(among), QUANTILE), STRICT, LOOSE))


def _nearest(differences: np.ndarray) -> np.ndarray:
    """(N,): of differences (N, M) the k-th smallest, k = 1 + M / SELDOM."""
    order = differences.shape[1] // SELDOM
    return np.partition(differences, order, axis=1)[:, order]


def example_of(region: Region, classes: np.ndarray, num_classes: int) -> Example:
    """Of a region in its class map (H, W)."""
    mask, foot, total = region.mask(classes), foot_of(region.box), classes.shape[0]
    contacts = Outline.of(mask).contacts(classes, np.array([foot]), np.ones(1), num_classes)[0]
    return Example((foot[0] + 1) / total, float(np.sqrt(region.area)) / total, contacts, not region.at_border)


def foot_of(box: tuple[int, int, int, int]) -> tuple[float, float]:
    """Row and column of a box's foot."""
    top, left, height, width = box
    return top + height - 1.0, left + (width - 1) / 2


def _growth(examples: Mapping[int, Sequence[Example]]) -> dict[int, float]:
    """By class, the slope of log size over the row of the foot: its own as far as it has examples, else that of all."""
    products, squares = {}, {}
    for label, known in examples.items():
        facts = np.array([(each.row, np.log(each.size)) for each in known if each.whole]).reshape(-1, 2)
        rows, sizes = (facts - facts.mean(0)).T if len(facts) else facts.T
        products[label], squares[label] = float(rows @ sizes), float(rows @ rows)
    common = sum(products.values()) / (sum(squares.values()) + PRIOR)
    return {label: (products[label] + PRIOR * common) / (squares[label] + PRIOR) for label in examples}
