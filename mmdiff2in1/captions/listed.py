"""Captions that somebody has written, one per line of a text file."""

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from mmdiff2in1.core.text_files import is_utf8, json_value, lines_of


class ListedCaptions:
    """The captions of the file at `path` in their order; behind the last comes the first again.

    A text file has one per line, empty lines are skipped. A `.jsonl` file has {"caption": …} or a string on each line,
    so a file as `read_captions` reads it will do.

    Raises FileNotFoundError without the file; ValueError if it holds no captions, or, with its number, for a line that
    is none.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'caption list {path} does not exist; expected one caption per line')
        read = _of_json if path.suffix == '.jsonl' else str
        lines = enumerate(lines_of(path), start=1)
        self._captions = [_read(line, read, path, number) for number, line in lines if line.strip()]
        if not self._captions:
            raise ValueError(f'{path} holds no captions; expected one per line')

    def captions(self, count: int) -> list[str]:
        """The first `count`."""
        return list(islice(cycle(self._captions), count))

    def around(self, own: Sequence[str]) -> list[str]:
        """As many as there are `own` ones, which do not matter."""
        return self.captions(len(own))


def _read(line: str, read, path: Path, number: int) -> str:
    try:
        caption = ' '.join(read(line).split())
        if not is_utf8(caption):
            raise ValueError
        return caption
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f'{path}:{number}: found {line[:80]!r}, expected {{"caption": "<text>"}} or "<text>"'
        ) from None


def _of_json(line: str) -> str:
    entry = json_value(line)
    return entry['caption'] if isinstance(entry, dict) else entry
