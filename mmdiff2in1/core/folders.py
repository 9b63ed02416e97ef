"""The files below a folder: the one walk of all that lists, checks, hashes or trains on one.

It lists what mmseg's data sets list (linked folders are followed, hidden files passed over), without two traps of
theirs: a link back to a folder above ends the walk there, and hidden folders are passed over as well.
"""

import os
from collections.abc import Iterator
from pathlib import Path

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
"""Endings of the names of images, in small or capital letters."""


def files_below(folder: str | Path, suffix: str | tuple[str, ...] = '') -> list[str]:
    """Names relative to `folder`, with `/`, sorted, of the files in it and in all folders below.

    Args:
        folder: Linked folders in it are followed.
        suffix: What the names end with, in these letters; of several, one.

    Raises:
        OSError: A folder that cannot be listed, with its name.
    """
    return sorted(name for name, is_file in _entries(os.fspath(folder), '', ()) if is_file and name.endswith(suffix))


def images_below(folder: str | Path) -> list[str]:
    """`files_below` of those that end as images do, in small or capital letters."""
    return [name for name in files_below(folder) if name.lower().endswith(IMAGE_SUFFIXES)]


def without_image_suffix(name: str) -> str:
    """A name without what images end with, if it ends so."""
    return next((name[: -len(suffix)] for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix)), name)


def no_files(folder: str | Path, suffix: str) -> list[str]:
    """Names, as in `files_below`, that end as those of files do and are none: folders, links that lead nowhere."""
    return sorted(
        name for name, is_file in _entries(os.fspath(folder), '', ()) if not is_file and name.endswith(suffix)
    )


def is_hidden(name: str) -> bool:
    """True if a relative name, with `/`, is that of a hidden file (a Mac's `._a.jpg` is one), or lies in a hidden
    folder."""
    return any(part.startswith('.') and part not in ('.', '..') for part in name.split('/'))


def _entries(folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Names, and whether it is a file; folders come before what is in them."""
    place = os.path.realpath(folder)
    if place in above:  # a link that leads back
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            link = entry.is_symlink()  # of one in a circle `entry.is_dir` raises
            if os.path.isdir(entry.path) if link else entry.is_dir():
                yield prefix + entry.name, False
                yield from _entries(entry.path, f'{prefix}{entry.name}/', (*above, place))
            else:
                yield prefix + entry.name, os.path.isfile(entry.path) if link else entry.is_file()
