"""Paths on a command line that have to be there: said at once, before anything heavy is imported."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from .names import did_you_mean


def check_given(args: argparse.Namespace, inputs: Mapping[str, str]) -> None:
    """Refuses a path that leads nowhere; one that was not given is none.

    Args:
        args: Of a command.
        inputs: Argument → what its path leads to; what begins with ``folder`` has to be one.

    Raises:
        FileNotFoundError: With the nearest name beside it.
    """
    for name, what in inputs.items():
        place = getattr(args, name)
        if place is None:
            continue
        path = Path(place).expanduser()
        fits = Path.is_dir if what.startswith('folder') else Path.exists
        if fits(path):
            continue
        beside = sorted(each.name for each in path.parent.iterdir() if fits(each)) if path.parent.is_dir() else []
        raise FileNotFoundError(f'{place}: no such {what}{did_you_mean(path.name, beside)}')


def check_work_dir(place: str | Path) -> None:
    """Refuses a file where a folder is going to be, or to be made.

    Raises:
        NotADirectoryError: It is one, or lies below one.
    """
    path = Path(place)
    file = next((each for each in (path, *path.parents) if each.exists() and not each.is_dir()), None)
    if file is not None:
        raise NotADirectoryError(f'--work-dir {place}: {file} is a file; expected a folder, which is made if need be')
