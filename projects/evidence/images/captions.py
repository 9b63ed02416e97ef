"""Captions that a generator has never seen."""

from collections.abc import Sequence


def unseen_captions(captions: Sequence[str], seen: Sequence[str]) -> list[int]:
    """Positions of the captions that are not among those `seen` in training; of equal ones the first."""
    first = {caption: i for i, caption in reversed(list(enumerate(captions)))}
    return sorted(i for caption, i in first.items() if caption not in set(seen))
