"""Importing all files of a room, so that a new one registers what it holds without being listed anywhere."""

import importlib
import pkgutil


def import_room(name: str) -> None:
    """Imports every module directly in the package `name`."""
    for module in pkgutil.iter_modules(importlib.import_module(name).__path__, f'{name}.'):
        importlib.import_module(module.name)
