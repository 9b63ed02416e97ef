"""One at a time: a folder belongs to the run that works in it, a file to the process that appends to it.

By `flock`: the system takes a lock back when its process dies, however it dies. Where a file system has no locks, or
nothing can be written, there is none.
"""

import contextlib
import errno
import fcntl
import functools
import json
import os
import socket
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from mmengine.logging import print_log

LOCK = '.lock'
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
PATIENCE = 10.0
"""Seconds in which the forked children of a killed process let go of its lock."""
BEGINNING = 1.0
"""Seconds in which a process that has just got a lock says who it is."""
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)

_held: dict[str, tuple[int, int]] = {}
"""Real path of a lock → its descriptor, and how many blocks of this process are inside."""


class InUseError(RuntimeError):
    """Another process works in the folder."""


@contextlib.contextmanager
def locked(folder: str | Path, what: str, run: str | None = None, rank: int = 0) -> Iterator[bool]:
    """The folder is this process's own, or its run's, until the block ends, or the process; whether it could be locked.

    A process that has it may ask again. In a folder that cannot be written nothing is locked, for nothing can be lost.

    Args:
        folder: Made if it is not there, and gone again if nothing is in it at the end.
        what: What the process does there, for the message to others.
        run: Processes that name the same run may be in the folder at once, one of each ``rank``; None: this one alone.
        rank: Number of the process in its run.

    Raises:
        InUseError: Another process or run has it: which, where, since when and for what.
    """
    file = Path(folder, LOCK)
    key = os.path.realpath(file)
    descriptor, inside = _held.get(key, (None, 0))
    made = [each for each in (file.parent, *file.parent.parents) if not each.exists()]
    if descriptor is None:
        descriptor = _taken(file, what, run, rank)
    if descriptor is None:
        yield False
        return
    _held[key] = descriptor, inside + 1
    try:
        yield True
    finally:
        descriptor, inside = _held.get(key, (None, 0))
        if descriptor is not None and inside > 1:
            _held[key] = descriptor, inside - 1
        elif descriptor is not None:  # a forked child has none
            del _held[key]
            if _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) is not False:  # the last one of its run
                with contextlib.suppress(OSError):  # its folder may have gone
                    os.unlink(key)
            os.close(descriptor)
            with contextlib.suppress(OSError):  # something is in it
                for each in made:
                    each.rmdir()


@contextlib.contextmanager
def alone(file: Path) -> Iterator[FileIO]:
    """The file, opened to append to, while nobody else is in such a block; waits for its turn.

    A file that another has replaced meanwhile is opened anew; one that is not there is made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(file, 'ab+', buffering=0) as stream:
            _flock(stream.fileno(), fcntl.LOCK_EX)
            if _is_at(stream.fileno(), file):
                yield stream
                return


def owned(descriptor: int) -> bool:
    """Marks an open file as that of a living process, for :func:`is_left`; whether that could be done."""
    return _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) is True


def is_left(file: Path) -> bool:
    """True if no living process has :func:`owned` the file any more; False where that cannot be known."""
    try:
        with open(file, 'rb') as stream:
            return owned(stream.fileno())
    except OSError:
        return False


def _taken(file: Path, what: str, run: str | None, rank: int) -> int | None:
    """The descriptor of a lock of this process; None where nothing can be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno in READ_ONLY:
            return None
        raise
    facts = dict(pid=os.getpid(), host=socket.gethostname(), since=time.strftime('%Y-%m-%d %H:%M:%S'))
    started = time.monotonic()
    try:
        while not _entered(descriptor, facts | dict(what=what, run=run, rank=rank), file):
            inside = _inside(descriptor)
            living = [each for each in inside if _is_another(each)]
            waited = time.monotonic() - started
            strangers = [each for each in living if run is None or each['run'] != run or each['rank'] == rank]
            if strangers or waited > (PATIENCE if inside else BEGINNING):
                raise InUseError(
                    f'{file.parent} is in use by {_told(strangers or living or inside)}; wait until that process has '
                    'ended, end it, or choose another folder. A lock ends with its process: there is nothing to delete'
                )
            time.sleep(0.02)
        if _is_at(descriptor, file):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)  # its owner has just ended, and the file with it
    return _taken(file, what, run, rank)


def _entered(descriptor: int, facts: dict, file: Path) -> bool:
    """True if this process is in, and stands in the file: by itself, or among those of its run.

    Whoever is alone holds the lock exclusively; the processes of a run share it, and as long as one of them is there
    nobody else gets it alone.
    """
    line = json.dumps(facts).encode() + b'\n'
    if _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) is not False:
        if not _is_at(descriptor, file):
            return True  # to be opened anew
        os.ftruncate(descriptor, 0)
        os.write(descriptor, line)
        if facts['run'] is None:
            return True
        # Between the two locks another run may come.
        shared = _flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB) is not False
        return shared and facts in _inside(descriptor) or _left(descriptor)
    if facts['run'] is None or _flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB) is False:
        return False
    if not _is_at(descriptor, file):
        return True
    inside = _inside(descriptor)
    same_place = [each for each in inside if each['rank'] == facts['rank'] and _is_another(each)]
    if not inside or same_place or any(each['run'] != facts['run'] for each in inside):
        return _left(descriptor)
    os.write(descriptor, line)
    return True


def _left(descriptor: int) -> bool:
    """False, without any lock."""
    _flock(descriptor, fcntl.LOCK_UN)
    return False


def _is_another(facts: dict) -> bool:
    """True for a living process that is not this one.

    Of a process of this machine that is no more the lock lingers until its forked children let go of it.
    """
    if facts['host'] != socket.gethostname():
        return True
    try:
        os.kill(facts['pid'], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return facts['pid'] != os.getpid()


def _told(inside: list[dict]) -> str:
    if not inside:
        return 'another process'
    facts = inside[0]
    return f'process {facts["pid"]} on {facts["host"]} since {facts["since"]} ({facts["what"]})'


def _inside(descriptor: int) -> list[dict]:
    """Facts that the processes inside have written, as far as they are readable (yet)."""
    found = []
    for line in os.pread(descriptor, 1 << 20, 0).splitlines():
        with contextlib.suppress(ValueError, AttributeError):
            facts = json.loads(line)
            if {'pid', 'host', 'since', 'what', 'run', 'rank'} <= facts.keys() and isinstance(facts['pid'], int):
                found.append(facts)
    return found


def _flock(descriptor: int, how: int) -> bool | None:
    """True if the lock was given; None where the file system has none."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        _say_once(f'the file system has no locks ({error.strerror}): see to it that one process writes here')
        return None
    return True


@functools.cache
def _say_once(text: str) -> None:
    print_log(text, 'current')


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _forget() -> None:
    """In a forked child, such as a reader of a data loader, which would keep the lock of a parent that is killed."""
    for descriptor, _ in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)
