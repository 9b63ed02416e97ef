"""Files that are either whole or absent after a crash."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

from .lock import alone, is_left, owned


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A neighbour of its own to write to, which then takes the place of the file; nothing is left on failure.

    What a killed process leaves behind (`.NAME.….part`) goes with :func:`remove_parts`.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f'.{file.name}.{secrets.token_hex(4)}.part')
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        owned(descriptor)
        yield part
        # Libraries may put another file there: safetensors does, which its owner alone could read.
        with open(part, 'r+b') as written:
            os.fsync(written.fileno())
        part.chmod(stat.S_IMODE(os.fstat(descriptor).st_mode))
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    _sync_folder(file.parent)


def write_atomically(file: Path, data: bytes | Iterable[bytes]) -> None:
    """Write to a neighbour, flush to the disk, rename. Missing parent folders are made; nothing is left on failure.

    `data` that comes in pieces is never whole in memory.
    """
    with replacing(file) as part, part.open('wb') as stream:
        stream.writelines([data] if isinstance(data, bytes) else data)


def remove_parts(folder: str | Path) -> list[str]:
    """Delete the parts that processes which are no more have left in `folder`; returns their names."""
    parts = [part for part in sorted(Path(folder).glob('.*.part')) if part.is_file() and is_left(part)]
    for part in parts:
        part.unlink(missing_ok=True)
    return [part.name for part in parts]


def append_line(file: Path, line: str) -> None:
    """Append one line and flush it to the disk; a truncated last line of a killed run is cut off first.

    Several processes may append to one file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    is_new = not file.exists()
    data = line.encode() + b'\n'
    # Unbuffered: a buffer that could not be written to a full disk would be tried again on closing.
    with alone(file) as stream:
        end = _end_of_complete_lines(stream)
        stream.truncate(end)
        try:
            while data:
                data = data[stream.write(data) :]
            os.fsync(stream.fileno())
        except OSError:
            # What is not surely on the disk must not be read as if it were.
            stream.truncate(end)
            raise
    if is_new:
        _sync_folder(file.parent)


def complete_lines(file: Path) -> list[str]:
    """All lines that end in a newline; without the file none. A line that was being written when killed is left out."""
    return complete_text(file).decode(errors='replace').split('\n')[:-1]


def complete_text(file: Path) -> bytes:
    """The same as it stands in the file."""
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return b''
    return text[: text.rfind(b'\n') + 1]


def _end_of_complete_lines(stream: FileIO, block: int = 4096) -> int:
    """The offset after the last newline, read backwards from the end."""
    end = stream.seek(0, os.SEEK_END)
    position = end
    while position > 0:
        start = max(0, position - block)
        stream.seek(start)
        found = stream.read(position - start).rfind(b'\n')
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _sync_folder(folder: Path) -> None:
    """Make a rename or a new file durable; some network file systems refuse, and then there is nothing to do."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
