"""Which entry of a config an error comes from: libraries say what is wrong, seldom where it was asked for."""

from collections.abc import Iterator, Mapping, Sequence
from traceback import walk_tb
from typing import Any

from mmengine.config import Config

from .names import type_name


def place_of(error: BaseException, cfg: Config | Mapping) -> str:
    """The innermost entry of a config that was being built, or whose object was at work, when the error was raised.

    Args:
        error: As it was caught.
        cfg: The config that was in use; what was built of a changed copy of an entry is known by its type.

    Returns:
        Its keys joined by dots and its type, as ``model.segmentor.neck (FPN)``, or ``FPNHead, as at …`` where several
        entries may be meant; empty if none is known.
    """
    entries = list(_entries(dict(cfg.items()), ''))
    at_work = ''
    for frame, _ in reversed(list(walk_tb(_first(error).__traceback__))):
        found = frame.f_locals
        if frame.f_code.co_name.startswith('build') and isinstance(found.get('cfg'), Mapping):
            kind = _kind(found['cfg'])
            place = next((place for place, entry in entries if entry == found['cfg']), '')
            if at_work in ('', kind) and (place or kind):
                return f'{place} ({kind})' if place and kind else place or _of_type(kind, entries)
        elif not at_work and 'self' in found and _of_type(type(found['self']).__name__, entries):
            at_work = type(found['self']).__name__
    return _of_type(at_work, entries)


def _of_type(kind: str, entries: Sequence[tuple[str, Mapping]]) -> str:
    """The entry of a type; of several the first stands for all."""
    places = [place for place, entry in entries if kind and _kind(entry) == kind]
    if not places:
        return ''
    return f'{places[0]} ({kind})' if len(places) == 1 else f'{kind}, as at {places[0]}'


def _kind(entry: Mapping) -> str:
    return type_name(entry) if isinstance(entry.get('type'), (str, type)) else ''


def _first(error: BaseException) -> BaseException:
    """The error that others were raised from, as mmengine's builder does."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _entries(value: Any, place: str) -> Iterator[tuple[str, Mapping]]:
    if isinstance(value, Mapping):
        if place:
            yield place, value
        for key, each in value.items():
            yield from _entries(each, f'{place}.{key}' if place else str(key))
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _entries(each, f'{place}.{index}')
