"""Random numbers of one sample, read off a hash: the same for ever, whatever the version of NumPy."""

from collections.abc import Sequence
from typing import TypeVar

from ..recipe import stable_hash

T = TypeVar('T')


class Draws:
    """An endless row of numbers that depends on nothing but `key`."""

    def __init__(self, *key: object) -> None:
        self._key, self._count = key, 0

    def share(self) -> float:
        """Uniform in [0, 1)."""
        self._count += 1
        return (stable_hash(*self._key, self._count) >> (256 - 53)) / 2**53

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.share()

    def integer(self, low: int, high: int) -> int:
        """Uniform in low … high, both included."""
        return low + int(self.share() * (high - low + 1))

    def one_of(self, things: Sequence[T]) -> T:
        """One of them, all alike."""
        return things[self.integer(0, len(things) - 1)]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """All of them, in any order."""
        ranks = [self.share() for _ in things]
        return [things[at] for at in sorted(range(len(things)), key=ranks.__getitem__)]
