"""Work that runs behind other work: files are written while the next images are made."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self


class Behind:
    """One thread that does what it is given, in that order; leaving the context waits for it.

    Args:
        most: So much may wait; then the caller does.

    The first error of the thread is raised by the next `do`, or on leaving; nothing that came after it is done. Is the
    context left by another error, what waits is dropped.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='behind')
        self._waiting: deque[Future] = deque()
        self._failed = False

    def do(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Puts `work` at the end of what waits."""
        while self._waiting and (len(self._waiting) >= self.most or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._work, work, arguments))

    def _work(self, work: Callable[..., Any], arguments: tuple) -> None:
        if self._failed:
            return
        try:
            work(*arguments)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            while kind is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)
