"""Difference of two arms that share seeds: mean, sample standard deviation, and a paired t-test."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (None with fewer than 2 values) and number of values."""

    mean: float | None
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> 'Spread':
        """Of any number of values; none at all have no mean."""
        array = np.array(list(values), dtype=float)
        return cls(
            float(array.mean()) if array.size else None,
            float(array.std(ddof=1)) if array.size > 1 else None,
            array.size,
        )

    def shown(self, sign: str = '', after: str = '') -> str:
        """As `1.23 ± 0.45` and what stands `after`; of one value without its deviation, of none a dash."""
        deviation = '' if self.std is None else f' ± {self.std:.2f}'
        return '–' if self.mean is None else f'{self.mean:{sign}.2f}{deviation}{after}'


@dataclass(frozen=True)
class Paired:
    """The differences of two arms, by rising seed, over the seeds that both have."""

    by_seed: dict[int, float]
    p: float | None  # two-sided; None with fewer than 2 pairs, or if all differences are equal

    @property
    def spread(self) -> Spread:
        """Of the differences."""
        return Spread.of(self.by_seed.values())


def compare(arm: Mapping[int, float], control: Mapping[int, float]) -> Paired:
    """`arm` − `control` (both seed → score) and Student's paired t-test of "their mean is 0"."""
    seeds = sorted(arm.keys() & control.keys())
    ours, theirs = np.array([arm[s] for s in seeds]), np.array([control[s] for s in seeds])
    differences = ours - theirs
    p = None
    # Scores carry rounding errors: differences that agree up to those have no spread to hold their mean against.
    if len(seeds) > 1 and np.ptp(differences) > 1e-9 * max(np.abs(ours).max(), np.abs(theirs).max()):
        p = float(stats.ttest_rel(ours, theirs).pvalue)
    return Paired(dict(zip(seeds, differences.tolist(), strict=True)), p)
