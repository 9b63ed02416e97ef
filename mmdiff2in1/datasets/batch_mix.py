"""How many real and how many synthetic samples stand in one batch."""

from collections.abc import Mapping
from dataclasses import dataclass

KNOWN = "'uniform', dict(ratio=(r, s)), dict(added=s), dict(added='equal')"


@dataclass(frozen=True)
class BatchMix:
    """A parsed `mix` of `SyntheticSampleDataset`; r = `real`, s = `synthetic`, both per batch and rank.

    - `'uniform'`: one shuffled list of all samples, as in the released code; the counts vary from batch to batch.
    - `ratio`: r real to s synthetic in every batch, batch size unchanged.
    - `added`: the real batch unchanged, s synthetic samples appended; the only fair comparison to a run without
      synthetic samples at an equal number of real ones.
      `added='equal'`: as many as there are real ones, whatever share of a batch a process has.
    """

    name: str
    real: int = 0
    synthetic: int = 0

    @classmethod
    def parse(cls, mix: str | Mapping) -> 'BatchMix':
        """Raises ValueError for an unknown mix (listing the known ones) and for counts that are no integers >= 1."""
        if mix == 'uniform':
            return cls('uniform')
        if isinstance(mix, Mapping) and len(mix) == 1:
            name, counts = next(iter(mix.items()))
            if name == 'added' and counts == 'equal':
                return cls('equal')
            if name == 'added':
                return cls(name, synthetic=_count(counts, mix))
            if name == 'ratio' and isinstance(counts, (tuple, list)) and len(counts) == 2:
                return cls(name, real=_count(counts[0], mix), synthetic=_count(counts[1], mix))
        raise ValueError(f'unknown mix {mix!r}; known: {KNOWN}')

    @property
    def exact(self) -> bool:
        """True if every batch holds the same number of synthetic samples."""
        return self.name != 'uniform'

    def composition(self, batch_size: int) -> tuple[int, int]:
        """(real, synthetic) samples of a batch; for 'uniform' (batch_size, 0): the stream itself is mixed.

        Raises ValueError if `ratio` does not divide the batch.
        """
        if self.name == 'uniform':
            return batch_size, 0
        if self.name == 'equal':
            return batch_size, batch_size
        if self.name == 'added':
            return batch_size, self.synthetic
        parts = self.real + self.synthetic
        if batch_size % parts:
            raise ValueError(
                f'batch_size {batch_size} cannot be split as ratio=({self.real}, {self.synthetic}): '
                f'expected a multiple of {parts}, for example {max(1, round(batch_size / parts)) * parts}'
            )
        return batch_size // parts * self.real, batch_size // parts * self.synthetic


def _count(value: object, mix: Mapping) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f'mix {mix!r}: found {value!r}, expected integers of 1 or more; without synthetic samples set store=None'
        )
    return value
