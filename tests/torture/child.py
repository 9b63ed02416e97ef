"""A function in a process of its own, which may hang, be killed, or fail; the imports are those of the parent."""

import functools
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mmengine.config.config
import mmengine.runner.runner
from mmengine.utils.dl_utils import collect_env

from .moments import Event, Events, Moment


def make_forks_cheap() -> None:
    """What each would do again for nothing: search what was imported for garbage, format configs, ask for versions."""
    gc.collect()
    gc.freeze()
    mmengine.config.config.FormatCode = lambda text, **_: (text, True)
    mmengine.runner.runner.collect_env = functools.cache(collect_env)
    mmengine.runner.runner.collect_env()


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Args:
        how: ``done``, ``raised``, ``killed`` (as asked), ``hung`` (past the limit) or ``died`` (of a signal).
        seconds: From the start.
        error: Class of the exception, or the signal; empty.
        text: Message of the exception.
        place: Its last lines of traceback, for a report.
        events: What it did with files, if that was watched.
    """

    how: str
    seconds: float
    error: str = ''
    text: str = ''
    place: str = ''
    events: tuple[Event, ...] = ()


def run(
    work: Callable[[], object], log: Path, limit: float, events: Events | None = None, kill_at: Moment | None = None
) -> Ended:
    """Runs ``work()`` in a fork of this process; what it prints is appended to ``log``.

    Args:
        limit: Seconds after which it is a hang.
        events: Is told what the process does with files, and closed.
        kill_at: When it is killed (SIGKILL), with all that it started; needs ``events``.
    """
    started, error = time.monotonic(), log.with_suffix('.error')
    error.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _child(work, log, error, events)
    own_group(child)
    try:
        how, signalled = _watched(child, started + limit, events, kill_at)
    finally:
        if events is not None:
            events.close()
    ended = functools.partial(
        Ended, seconds=time.monotonic() - started, events=() if events is None else tuple(events.seen)
    )
    if how == 'raised':
        return ended(how, **(json.loads(error.read_text()) if error.is_file() else {'error': 'exit'}))
    return ended(how, error=signalled)


def _watched(child: int, end: float, events: Events | None, kill_at: Moment | None) -> tuple[str, str]:
    """How the child ended, and of which signal it died."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if events is not None:
            events.read()
        if ended and os.WIFSIGNALED(status):
            return 'died', signal.Signals(os.WTERMSIG(status)).name
        if ended:
            return 'raised' if os.WEXITSTATUS(status) else 'done', ''
        due = None if events is None or kill_at is None else events.until(kill_at)
        now = time.monotonic()
        if now >= min(end, due or end):
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 'hung' if now >= end else 'killed', ''
        time.sleep(0.002)


def own_group(child: int = 0) -> None:
    """Makes ``child``, or this process, the head of a group of its own, which can be killed with all that it started.

    Child and parent both call it: whichever comes second finds it done, and none has to wait for the other.
    """
    os.setpgid(child, child)


def _child(work: Callable[[], object], log: Path, error: Path, events: Events | None) -> None:
    code = 1
    try:
        own_group()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(out, stream)
        if events is not None:
            events.tell()
        work()
        code = 0
    except BaseException as exception:  # noqa: BLE001 (whatever it is, it is the answer)
        place = ''.join(traceback.format_exception(exception)[-3:])
        facts = dict(error=type(exception).__name__, text=str(exception), place=place)
        error.write_text(json.dumps(facts))
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
