"""The JSONL file that captions are written to: whole after a kill, and shared by several processes.

captions.jsonl             {"image": "a/0001.png", "caption": "a room with …"} on each line; `read_captions` reads it
captions.rank<r>.jsonl     the same, while several processes write; folded in by `merge`
"""

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from mmdiff2in1.core.atomic_files import append_line, complete_lines, write_atomically
from mmdiff2in1.core.text_files import is_marked, is_utf8, json_value, lines_of

from .lookup import image_key, read_captions


class CaptionFile:
    """Reads and extends the captions in `path`; `rank` names the shard to append to (None: the file itself)."""

    def __init__(self, path: str | Path, rank: int | None = None) -> None:
        self.path = Path(path)
        self.rank = rank

    def read(self) -> dict[str, str]:
        """{image: caption} of the file and its shards; empty without them. A line that was cut by a kill is left out.

        Raises ValueError as `read_captions` does.
        """
        shards = [line for shard in self._shards() for line in complete_lines(shard)]
        captions: dict[str, str] = {}
        if self.path.is_file() and not self._cut():
            captions, lines = read_captions(self.path), shards
        else:
            lines = complete_lines(self.path) + shards
        for line in lines:
            if line.strip():
                captions.setdefault(*self._entry(line))
        return captions

    def repair(self) -> bool:
        """Take off a line that was cut by a kill, end the last one with a new line; True if something was lost.

        A file with the mark of an encoding, which somebody else has written, becomes plain UTF-8 that can be extended.
        """
        if self.path.is_file() and is_marked(self.path):
            write_atomically(self.path, _text(lines_of(self.path)).encode())
        if not self.path.is_file() or self.path.read_bytes()[-1:] in (b'', b'\n'):
            return False
        cut = self._cut()
        if not cut:  # written by hand, without the new line: `append` would take it for a cut one
            write_atomically(self.path, self.path.read_bytes() + b'\n')
            return False
        write_atomically(self.path, _text(complete_lines(self.path)).encode())
        return True

    def append(self, entries: Mapping[str, str]) -> None:
        """Write {image: caption} behind what is there, in one go and down to the disk.

        Raises OSError with what to do if the disk is full, ValueError for a caption that is no UTF-8.
        """
        file = self.path if self.rank is None else self._shard(self.rank)
        try:
            append_line(file, '\n'.join(_line(image, caption) for image, caption in entries.items()))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            message = f'{os.strerror(error.errno)}: the captions so far are safe; free some space and run this again'
            raise OSError(error.errno, message, str(file)) from error

    def merge(self, order: Sequence[str]) -> None:
        """Fold all shards into the file: first what it held, then the new captions in this order of images.

        To be called when nobody appends any more; several processes may do it at once, and it may be killed.
        """
        # Shards before the file: whoever else merges removes them when the file is complete.
        shards = self._shards()
        new = dict(self._entry(line) for shard in shards for line in complete_lines(shard))
        lines = complete_lines(self.path)
        there = {self._entry(line)[0] for line in lines if line.strip()}
        position = {image: index for index, image in enumerate(order)}
        images = sorted(set(new) - there, key=lambda image: (position.get(image, len(position)), image))
        if shards:
            write_atomically(self.path, _text([*lines, *(_line(image, new[image]) for image in images)]).encode())
        for shard in shards:
            shard.unlink(missing_ok=True)

    def forget(self, images: Set[str]) -> None:
        """Take the captions of these images out, so that they are made again. Not while another process writes."""
        self.repair()
        self.merge([])
        kept = [line for line in complete_lines(self.path) if not line.strip() or self._entry(line)[0] not in images]
        if self.path.is_file():
            write_atomically(self.path, _text(kept).encode())

    def _shard(self, rank: int | str) -> Path:
        return self.path.with_name(f'{self.path.stem}.rank{rank}{self.path.suffix}')

    def _shards(self) -> list[Path]:
        # Not by a glob: brackets of a name are its own.
        shard = re.compile(rf'{re.escape(self.path.stem)}\.rank\d+{re.escape(self.path.suffix)}')
        folder = self.path.parent
        return sorted(each for each in folder.iterdir() if shard.fullmatch(each.name)) if folder.is_dir() else []

    def _cut(self) -> bool:
        """True if the last line lacks its end."""
        if is_marked(self.path):
            return False
        tail = self.path.read_bytes().rpartition(b'\n')[2]
        try:
            return bool(tail.strip()) and not isinstance(json_value(tail), dict)
        except ValueError:
            return True

    def _entry(self, line: str) -> tuple[str, str]:
        try:
            entry = json_value(line)
            return image_key(entry['image']), entry['caption']
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f'{self.path}: found the line {line[:80]!r}, expected {{"image": "<file>", "caption": "<text>"}}'
            ) from None


def _line(image: str, caption: str) -> str:
    if not is_utf8(caption):
        raise ValueError(f'{image!r}: found the caption {caption!r:.80}, which is no text; expected UTF-8')
    # Of an image whose name is no UTF-8, JSON has the name as escapes.
    return json.dumps({'image': image, 'caption': caption}, ensure_ascii=not is_utf8(image))


def _text(lines: Sequence[str]) -> str:
    return ''.join(line + '\n' for line in lines)
