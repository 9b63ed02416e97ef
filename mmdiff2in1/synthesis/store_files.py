"""The files of a store: which belong to a record, how an array becomes one, and whether it is still what it was."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np


@dataclass(frozen=True)
class Damage:
    """One damaged place of a store: `file` relative to it, what was `found`, the sample it belongs to (if known)."""

    file: str
    found: str
    sample_id: str | None = None

    def __str__(self) -> str:
        return f'{self.file}: {self.found}'


def files_of(record: dict) -> list[tuple[str, str]]:
    """Name and hash of each file of a record, none for a rejected one.

    Stores of version 0.1.0 and before hold an empty label map per sample under the key `label`; it is not looked at.
    """
    if record.get('rejected'):
        return []
    labels = [(label['file'], label['sha256']) for label in record.get('labels', {}).values()]
    return [(record['image'], record['image_sha256']), *labels]


def damage_of(file: Path, expected: str) -> str | None:
    """The damage of a file whose SHA-256 is known; None if it is whole. OSError as :func:`reading`."""
    with reading(file):
        if not file.is_file():
            return 'is a folder, expected a file' if file.is_dir() else 'is missing'
        data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return None if digest == expected else f'is damaged: sha256 {digest[:12]}…, expected {expected[:12]}…'


def is_there(file: Path) -> bool:
    """True if a file is there and not empty. OSError as :func:`reading`."""
    with reading(file):
        return file.is_file() and file.stat().st_size > 0


@contextlib.contextmanager
def reading(file: Path) -> Iterator[None]:
    """A file that is there and cannot be read is no damage, and nothing is to be removed: OSError with the cure."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f'{file} cannot be read ({os.strerror(error.errno or errno.EIO)}), expected a file of a store that you may '
            'read. Nothing was changed: give yourself the right to read it (chmod -R u+rX), or look at the disk',
        ) from error


def check_label(task: str, label: np.ndarray) -> None:
    """ValueError for an array that is no stored label."""
    if label.dtype not in (np.uint8, np.uint16) or label.ndim not in (2, 3):
        raise ValueError(
            f'the label of {task} is {label.dtype} {label.shape}, expected uint8 or uint16, (H, W) or (H, W, 3)'
        )


def size_of(file: Path) -> int | None:
    """Bytes of a file; None if another process has just removed it."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None


def encoded(array: np.ndarray) -> bytes:
    """As PNG. By OpenCV, because Pillow cannot write 16-bit colour; it takes BGR."""
    ok, data = cv2.imencode('.png', array if array.ndim == 2 else np.ascontiguousarray(array[..., ::-1]))
    if not ok:
        raise ValueError(f'PNG encoding failed for an array of {array.dtype} {array.shape}')
    return data.tobytes()
