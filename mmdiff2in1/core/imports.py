"""Imports of others' packages, which print and warn while they are imported."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from types import ModuleType


def imported_quietly(name: str) -> ModuleType:
    """A module; errors of its import pass, prints and warnings do not."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return importlib.import_module(name)
