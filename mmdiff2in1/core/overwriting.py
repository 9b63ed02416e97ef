"""What lies there already is replaced where that was asked for, not otherwise."""

import argparse
from pathlib import Path


def add_overwrite(parser: argparse._ActionsContainer) -> None:
    """Adds --overwrite, which :func:`check_new` is asked with."""
    parser.add_argument('--overwrite', action='store_true', help='replace what is there already (default: an error)')


def check_new(place: str | Path, overwrite: bool = False) -> None:
    """Refuses to write over a file, or into a folder that holds something.

    Args:
        place: File or folder that is going to be written.
        overwrite: It may be there.

    Raises:
        FileExistsError: It is, and may not.
    """
    place = Path(place).expanduser()
    if overwrite or not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    raise FileExistsError(f'{place} is there already; name another place, or add --overwrite to replace it')
