"""Files that are either whole or absent after a crash."""

import os
from io import FileIO
from pathlib import Path


def write_atomically(file: Path, data: bytes, writer: str = '') -> None:
    """Write to a neighbour, flush to the disk, rename. Missing parent folders are made; nothing is left on failure.

    Processes that may write the same file at once need different `writer` names.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name: what a killed run left behind is overwritten by the run that does its work again.
    part = file.with_name(f'.{file.name}{writer}.part')
    try:
        with open(part, 'wb') as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(file.parent)


def append_line(file: Path, line: str) -> None:
    """Append one line and flush it to the disk; a truncated last line of a killed run is cut off first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    is_new = not file.exists()
    data = line.encode() + b'\n'
    # Unbuffered: a buffer that could not be written to a full disk would be tried again on closing.
    with open(file, 'ab+', buffering=0) as stream:
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
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return []
    return text[: text.rfind(b'\n') + 1].decode(errors='replace').split('\n')[:-1]


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
