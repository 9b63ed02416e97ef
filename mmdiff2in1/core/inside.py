"""Names that files give to other files: they stay below their folder, whatever is written there."""

import os
from pathlib import Path, PurePosixPath

LONGEST = 255
"""Bytes of a name, of which no file system takes more."""


def is_inside(name: object) -> bool:
    """True if a name, with forward slashes, is that of a file below the folder that it is relative to."""
    if not isinstance(name, str) or not name or '\0' in name or '\\' in name:
        return False
    try:
        parts = PurePosixPath(name).parts
        if any(len(os.fsencode(part)) > LONGEST for part in parts):
            return False
    except UnicodeEncodeError:  # half a character
        return False
    return bool(parts) and not name.startswith('/') and not name.endswith('/') and os.pardir not in parts


def remove_inside(folder: Path, name: str) -> bool:
    """Deletes a file below a folder, as far as it is there; one that a link leads out of the folder to stays.

    Returns:
        False for a name, or a place, outside of the folder: nothing is done.

    Raises:
        ValueError: A folder is in the place of the file.
    """
    if not is_inside(name):
        return False
    file = Path(folder, name)
    root = os.path.realpath(folder)
    if os.path.commonpath([root, os.path.realpath(file.parent)]) != root:
        return False
    if file.is_dir() and not file.is_symlink():
        raise ValueError(f'{file} is a folder, expected a file; move it away')
    file.unlink(missing_ok=True)  # of a link, the link
    return True
