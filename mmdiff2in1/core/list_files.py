"""Lists of files, one entry per line (split files, `ann_file`): read and written here and nowhere else."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .text_files import is_utf8, lines_of

COMMENT = '#'


@dataclass(frozen=True)
class ListLine:
    """A line of a list: `text` without white space around, `number` from 1. As a string 'FILE:NUMBER'."""

    file: str
    number: int
    text: str

    @property
    def is_comment(self) -> bool:
        """True if it begins as a comment does; it may be a name all the same."""
        return self.text.startswith(COMMENT)

    def __str__(self) -> str:
        return f'{self.file}:{self.number}'


def list_lines(path: str | Path, backend_args: dict | None = None) -> list[ListLine]:
    """All lines of a list, empty ones and comments too.

    Args:
        path: Of a text file, see `read_text`; any ends of lines, marks of an encoding are taken off.
        backend_args: Of mmengine's file backend.

    Raises:
        OSError: It cannot be opened.
        ValueError: Another encoding than UTF-8 without a mark that says which.
    """
    lines = lines_of(path, backend_args)
    return [ListLine(str(path), number, text.strip()) for number, text in enumerate(lines, 1)]


def list_entries(path: str | Path, backend_args: dict | None = None) -> list[ListLine]:
    """The lines that name something: neither empty nor a comment. Raises as `list_lines`."""
    return [line for line in list_lines(path, backend_args) if line.text and not line.is_comment]


def named_classes(said: str) -> list[str] | None:
    """The names in a file of class names, one a line; None: what was said is not the name of a file.

    Args:
        said: A path, which has a slash or ends in `.txt`, or anything else that is a file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds no names, or one twice; or see `read_text`.
    """
    if not os.path.isfile(said):  # of a text longer than a file name `Path.is_file` raises an error
        if ',' in said or not ('/' in said or said.endswith('.txt')):
            return None
        raise FileNotFoundError(f'{said}: no such file, expected one with the name of a class in each line')
    names = [line.strip() for line in lines_of(said) if line.strip()]
    if not names:
        raise ValueError(f'{said}: found no names, expected one in each line')
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'{said}: found {", ".join(twice)} more than once, expected another name in each line')
    return names


def list_bytes(names: Iterable[str]) -> bytes:
    """A list of these names as a file holds it.

    Raises:
        ValueError: A name that no line can hold: a line break or white space around it, or bytes that are no UTF-8.
    """
    lines = []
    for name in names:
        if not name or name != name.strip() or '\n' in name or '\r' in name:
            raise ValueError(
                f'found the name {name!r}, expected one without white space around it and line breaks in it, which a '
                'list cannot hold: rename the file'
            )
        if not is_utf8(name):
            raise ValueError(
                f'found the name {name!r}, whose bytes are no UTF-8, expected one that a text file can hold: rename '
                'the file, e.g. convmv -f latin1 -t utf8 --notest'
            )
        lines.append(f'{name}\n'.encode())
    return b''.join(lines)
