"""Names: those of tensors in messages, what a misspelt one may have meant, and that of a component in a config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

LISTED = 5


def some(names: Sequence[str]) -> str:
    """The first few names, or 'none'."""
    return ', '.join(names[:LISTED]) + (', …' if len(names) > LISTED else '') if names else 'none'


def kind_of(names: Iterable[str], starts: Mapping[str, str]) -> str:
    """Kind of a file with tensors of these names; `starts`: beginning of a name → kind."""
    names = list(names)
    return next((kind for start, kind in starts.items() if any(n.startswith(start) for n in names)), 'another layout')


def listed(kinds: Mapping[str, Sequence[str]]) -> str:
    """'missing 2: a, b; unexpected 1: c' of the kinds that have names."""
    return '; '.join(f'{kind} {len(names)}: {some(names)}' for kind, names in kinds.items() if names)


def near(name: str, known: Iterable[str], most: int = 1, alike: float = 0.6) -> list[str]:
    """The names that one may have meant, the nearest first; small and capital letters, `-` and `_` count as equal.

    Args:
        name: As it was written.
        known: Those that there are.
        most: So many at most.
        alike: How much two names must have in common, in 0 … 1.
    """
    plain: dict[str, list[str]] = {}
    for each in known:
        plain.setdefault(_plain(each), []).append(each)
    found = get_close_matches(_plain(name), plain, most, alike)
    return [each for match in found for each in plain[match]][:most]


def did_you_mean(name: str, known: Iterable[str], most: int = 1, alike: float = 0.6) -> str:
    """'; did you mean a or b?' of what is `near`, for the end of a message; empty where nothing is."""
    found = near(name, known, most, alike)
    return f'; did you mean {" or ".join(found)}?' if found else ''


def unknown_names(unknown: Iterable[str], known: Iterable[str]) -> str:
    """'a (did you mean b?), c; known: b, d' of names that there are not; without the list if all have a near one."""
    known = list(known)
    meant = {each: near(each, known) for each in unknown}
    said = ', '.join(f'{each} (did you mean {found[0]}?)' if found else each for each, found in meant.items())
    return said if all(meant.values()) else f'{said}; known: {", ".join(known)}'


def _plain(name: str) -> str:
    return name.lower().replace('-', '_')


def type_name(component: object) -> str:
    """Name of the class that a config's component is of: its ``type`` with or without a scope, a class, or an object.

    ``dict(type='mmseg.ValLoop')``, ``dict(type=ValLoop)`` and a built loop are all ``ValLoop``; without a type: ''.

    Raises ValueError where its type is neither a name nor a class.
    """
    kind = component.get('type', '') if isinstance(component, Mapping) else type(component)
    if not isinstance(kind, str | type):
        raise ValueError(f'type={kind!r}: expected the name of a registered class, or the class')
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__
