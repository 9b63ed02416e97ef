"""Random numbers of one sample, read off a hash: the same for ever, whatever the version of NumPy."""

import hashlib
import json
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar('T')


class Draws:
    """An endless row of numbers that depends on nothing but `key`."""

    def __init__(self, *key: object) -> None:
        self._key, self._count = key, 0

    def share(self) -> float:
        """Uniform in [0, 1)."""
        return float(self.shares(1)[0])

    def shares(self, *size: int) -> np.ndarray:
        """So many, uniform in [0, 1), float64."""
        self._count += 1
        text = json.dumps([*self._key, self._count]).encode()
        digest = hashlib.shake_256(text).digest(8 * int(np.prod(size)))
        return (np.frombuffer(digest, '<u8') >> np.uint64(11)).reshape(size) / 2.0**53

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
