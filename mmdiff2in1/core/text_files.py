"""Text that a user brings: captions, lists of files, class names. Read here and nowhere else."""

import json
from pathlib import Path
from typing import Any

from mmengine import fileio

OTHER_KINDS = {
    'version https://git-lfs': 'a pointer of Git LFS in the place of the file',
    '<!doctype html': 'a web page',
    '<html': 'a web page',
}
"""How texts begin that lie in the place of another, in small letters."""
BOMS = {b'\xef\xbb\xbf': 'utf-8-sig', b'\xff\xfe': 'utf-16', b'\xfe\xff': 'utf-16'}


def read_text(path: str | Path, backend_args: dict | None = None) -> str:
    """The text of a file in UTF-8, or in what the mark at its beginning says (UTF-8 or UTF-16); without that mark.

    `backend_args`: of mmengine's file backend.

    Raises:
        OSError: It cannot be opened.
        ValueError: Another encoding, or no text: file, line and byte, and how to convert it.
    """
    data = fileio.get(path, backend_args=backend_args)
    encoding = next((name for mark, name in BOMS.items() if data.startswith(mark)), 'utf-8')
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b'\n') + 1
        raise ValueError(
            f'{path}:{line}: found the byte 0x{data[error.start]:02x}, which is no {encoding[:6].strip("-").upper()}; '
            f'expected a text file in UTF-8. If it is Latin-1: iconv -f latin1 -t utf-8 {Path(path).name} > new'
        ) from None
    if '\0' in text:
        line = text[: text.index('\0')].count('\n') + 1
        raise ValueError(
            f'{path}:{line}: found a zero byte, which no text has; expected a text file in UTF-8. If it is UTF-16 '
            f'without a mark: iconv -f utf-16le -t utf-8 {Path(path).name} > new; else it is damaged, or no text'
        )
    start = text.lstrip()[:64].lower()
    other = next((kind for begin, kind in OTHER_KINDS.items() if start.startswith(begin)), None)
    if other is not None:
        raise ValueError(f'{path}:1: found {other}; expected a text file in UTF-8. Fetch the file itself')
    return text


def json_value(text: str | bytes) -> Any:
    """The value of a JSON text; raises ValueError for any that is none, also for one that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError('JSON that is nested too deeply') from None


def is_utf8(text: str) -> bool:
    """True if a text can be written in UTF-8; the name of a file in another encoding or half a character cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """A text that any terminal and file takes; what is no UTF-8 is shown as Python writes it, `\\udcfc`."""
    return text.encode('utf-8', 'backslashreplace').decode()


def is_marked(path: str | Path) -> bool:
    """True if a file begins with the mark of an encoding, as nothing does that this package writes."""
    with open(path, 'rb') as stream:
        return stream.read(3).startswith(tuple(BOMS))


def lines_of(path: str | Path, backend_args: dict | None = None) -> list[str]:
    r"""The lines of a text file, which end in ``\n``, ``\r\n`` or ``\r``; raises as `read_text`.

    Not in U+2028 or U+0085, at which `str.splitlines` parts: JSON lines may hold them inside a caption.
    """
    lines = read_text(path, backend_args).replace('\r\n', '\n').replace('\r', '\n').split('\n')
    return lines if lines[-1] else lines[:-1]
