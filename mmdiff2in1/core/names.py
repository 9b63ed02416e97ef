"""Names: those of tensors in messages, and that of a component in a config."""

from collections.abc import Iterable, Mapping, Sequence

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


def type_name(component: object) -> str:
    """Name of the class that a config's component is of: its ``type`` with or without a scope, a class, or an object.

    ``dict(type='mmseg.ValLoop')``, ``dict(type=ValLoop)`` and a built loop are all ``ValLoop``; without a type: ''.

    Raises ValueError where its type is neither a name nor a class.
    """
    kind = component.get('type', '') if isinstance(component, Mapping) else type(component)
    if not isinstance(kind, str | type):
        raise ValueError(f'type={kind!r}: expected the name of a registered class, or the class')
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__
