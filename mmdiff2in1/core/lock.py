"""One at a time: a folder belongs to the process that works in it, a file to the process that appends to it.

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
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)

_held: dict[str, tuple[int, int]] = {}
"""Real path of a lock → its descriptor, and how many blocks of this process are inside."""


class InUseError(RuntimeError):
    """Another process works in the folder."""


@contextlib.contextmanager
def locked(folder: str | Path, what: str, name: str = LOCK) -> Iterator[bool]:
    """The folder is this process's own until the block ends, or the process; whether it could be locked.

    A process that has it may ask again. In a folder that cannot be written nothing is locked, for nothing can be lost.

    Args:
        folder: Made if it is not there, and gone again if nothing is in it at the end.
        what: What the process does there, for the message to others.
        name: Of the lock file, which goes with the lock, and stays when the process is killed; processes of one run
            need different ones.

    Raises:
        InUseError: Another process has it: which, where, since when and for what.
    """
    file = Path(folder, name)
    key = os.path.realpath(file)
    descriptor, inside = _held.get(key, (None, 0))
    made = [each for each in (file.parent, *file.parent.parents) if not each.exists()]
    if descriptor is None:
        descriptor = _taken(file, what)
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


def _taken(file: Path, what: str) -> int | None:
    """The descriptor of a lock of this process; None where nothing can be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno in READ_ONLY:
            return None
        raise
    try:
        if not _given(descriptor):
            raise InUseError(
                f'{file.parent} is in use by {_holder(descriptor)}; wait until that process has ended, end it, or '
                'choose another folder. A lock ends with its process: there is nothing to delete'
            )
        if _is_at(descriptor, file):
            facts = dict(pid=os.getpid(), host=socket.gethostname(), since=time.strftime('%Y-%m-%d %H:%M:%S'))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(facts | dict(what=what)).encode() + b'\n', 0)
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)  # its owner has just ended, and the file with it
    return _taken(file, what)


def _given(descriptor: int) -> bool:
    """True if the lock could be had; that of a killed process lingers until its forked children have let go of it."""
    end = time.monotonic() + PATIENCE
    while _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) is False:
        if time.monotonic() > end or not _is_of_the_dead(descriptor):
            return False
        time.sleep(0.02)
    return True


def _is_of_the_dead(descriptor: int) -> bool:
    facts = _facts(descriptor)
    if facts is None or facts['host'] != socket.gethostname():
        return False
    try:
        os.kill(facts['pid'], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    return False


def _holder(descriptor: int) -> str:
    facts = _facts(descriptor)
    if facts is None:
        return 'another process'
    return f'process {facts["pid"]} on {facts["host"]} since {facts["since"]} ({facts["what"]})'


def _facts(descriptor: int) -> dict | None:
    """Facts that the holder of a lock has written; None if that is not readable (yet)."""
    try:
        facts = json.loads(os.pread(descriptor, 4096, 0))
        whole = {'pid', 'host', 'since', 'what'} <= facts.keys() and isinstance(facts['pid'], int)
    except (ValueError, AttributeError):
        return None
    return facts if whole else None


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
