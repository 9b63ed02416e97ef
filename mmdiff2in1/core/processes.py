"""A pool of processes that starts alike everywhere, ends with the one that started it, and leaves Ctrl-C to it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, forkserver
from typing import Any


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@contextmanager
def process_pool(
    workers: int, imported: Sequence[str], prepare: Callable[..., Any], *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Processes that know nothing of this one but what they are given; left by an error, what waits is dropped.

    Nothing is forked that runs threads: on Linux and macOS an empty process imports the modules once and is forked from
    then on, elsewhere each imports them. A script that uses this must keep its own work below
    `if __name__ == '__main__'`.

    Args:
        workers: How many.
        imported: Modules that they need.
        prepare: Called first in each of them, with `arguments`.
    """
    can_serve = 'forkserver' in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context('forkserver' if can_serve else 'spawn')
    if can_serve:
        context.set_forkserver_preload(list(imported))
        with _interrupts_ignored():
            forkserver.ensure_running()
    pool = ProcessPoolExecutor(workers, context, _begin, (prepare, *arguments))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes that are started now go on ignoring them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(prepare: Callable[..., Any], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
