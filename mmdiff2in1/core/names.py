"""Names of tensors in messages: the first few of them, and what kind of file they are of."""

from collections.abc import Iterable, Mapping, Sequence

LISTED = 5


def some(names: Sequence[str]) -> str:
    """The first few names, or 'none'."""
    return ', '.join(names[:LISTED]) + (', …' if len(names) > LISTED else '') if names else 'none'


def kind_of(names: Iterable[str], starts: Mapping[str, str]) -> str:
    """What a file with tensors of these names is; `starts`: beginning of a name → kind."""
    names = list(names)
    return next((kind for start, kind in starts.items() if any(n.startswith(start) for n in names)), 'another layout')


def listed(kinds: Mapping[str, Sequence[str]]) -> str:
    """'missing 2: a, b; unexpected 1: c' of the kinds that have names."""
    return '; '.join(f'{kind} {len(names)}: {some(names)}' for kind, names in kinds.items() if names)
