"""Diff-2-in-1 for OpenMMLab. `mmdiff2in1.Diff2in1` is `inference.Diff2in1Inferencer`, imported when it is asked for."""

from __future__ import annotations

from typing import Any

from .core.imports import imported_quietly

__version__ = '0.1.0'
_ASKED_FOR = {'Diff2in1': ('inference', 'Diff2in1Inferencer')}
"""Name → room and name there: importing the package alone stays light."""


def __getattr__(name: str) -> Any:
    if name not in _ASKED_FOR:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    room, there = _ASKED_FOR[name]
    return getattr(imported_quietly(f'{__name__}.{room}'), there)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ASKED_FOR])
