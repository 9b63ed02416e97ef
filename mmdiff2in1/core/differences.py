"""In which places two things made of plain values differ, as a person reads it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

MOST = 6
"""Differences that are told."""
LONGEST = 60
"""Characters of a value."""
_DIGEST = re.compile(r'[0-9a-f]{32,}')


def differences(old: Any, new: Any) -> str:
    """`optim_wrapper.optimizer.lr: 0.1 → 0.01; …`, the first few; '' where there are none.

    Of digests, which tell nobody anything, that the content is another one.
    """
    found = list(_between(old, new, ''))
    more = f'; and {len(found) - MOST} more' if len(found) > MOST else ''
    return '; '.join(found[:MOST]) + more


def _between(old: Any, new: Any, key: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _between(old.get(name, ...), new.get(name, ...), f'{key}.{name}' if key else str(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _between(one, other, f'{key}[{index}]')
    elif old != new:
        both = all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in (old, new))
        yield f'{key}: another content' if both else f'{key}: {_shown(old)} → {_shown(new)}'


def _shown(value: Any) -> str:
    text = 'not set' if value is ... else repr(value)
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}…'
