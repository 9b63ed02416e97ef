"""Pairs read by all cores: what is found of them comes back in their order."""

import importlib
import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from mmdiff2in1.core.ahead import ahead, together
from mmdiff2in1.core.imports import imported_quietly
from mmdiff2in1.core.processes import process_pool, usable_cores
from mmdiff2in1.tasks import DenseTask

from .labels import LabelRules

imported_quietly('mmdiff2in1.checks.pair')  # a process of the pool imports this first
from .pair import PairFacts, inspect_pair  # noqa: E402

if TYPE_CHECKING:
    from mmdiff2in1.core.image_loading import OwnLoader

MANY = 4
"""Workers from which on processes are worth it: decoders release Python's lock, which the other half of the work holds,
so that threads keep about two cores busy. With two, processes were slower (docs/benchmarks/checking.md)."""
PATIENCE = 2.0
"""Seconds for which threads read, before it is known how long the rest would take."""
WORTH = 15.0
"""Seconds of reading that are worth the start of processes, which import torch first."""
TOGETHER = 16
"""Pairs that a process is given at a time."""


class PairReader:
    """`inspect_pair` of many pairs, for sets of any number; to be used as a context.

    Args:
        workers: Threads, or processes where they are many and the set is long; None: one for each usable core.
        modules: Imported in each process before it reads, as custom_imports of a config are.
    """

    def __init__(self, workers: int | None, modules: Sequence[str] = ()) -> None:
        self.workers = workers or usable_cores()
        self._modules = modules
        self._stack = ExitStack()
        self._pool: ProcessPoolExecutor | None = None

    def read(
        self,
        infos: Sequence[Mapping],
        rules: LabelRules | None,
        tasks: Mapping[str, DenseTask],
        loader: 'OwnLoader | None' = None,
    ) -> Iterator[PairFacts]:
        """Facts of each pair, in order."""
        work = partial(_inspect, rules=rules, tasks=tasks, loader=loader)
        left = deque(together(infos, TOGETHER))
        if self._pool is None:
            yield from self._by_threads(left, work)
        if self._pool is not None:
            for found in ahead(self._pool, work, left, most=2 * self.workers):
                yield from found

    def _by_threads(self, left: deque[Sequence[Mapping]], work: partial[list[PairFacts]]) -> Iterator[PairFacts]:
        """Takes all that is left; where that is long, until processes have started."""
        started: list[Future[int]] = []
        start, whole = time.monotonic(), len(left)

        def taken() -> Iterator[Sequence[Mapping]]:
            while left and not any(each.done() for each in started):
                yield left.popleft()

        with ThreadPoolExecutor(self.workers) as threads:
            for number, found in enumerate(ahead(threads, work, taken(), most=2 * self.workers), 1):
                yield from found
                seconds = time.monotonic() - start
                is_long = seconds >= PATIENCE and seconds / number * (whole - number) >= WORTH
                if self._pool is None and self.workers >= MANY and is_long and _can_travel(work):
                    pool = process_pool(self.workers, [__name__], _import, self._modules)
                    self._pool = self._stack.enter_context(pool)
                    started.append(threads.submit(_first_answer, self._pool))
        for each in started:
            each.result()

    def __enter__(self) -> 'PairReader':
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def _first_answer(pool: ProcessPoolExecutor) -> int:
    return pool.submit(int).result()


def _inspect(
    infos: Iterable[Mapping], rules: LabelRules | None, tasks: Mapping[str, DenseTask], loader: 'OwnLoader | None'
) -> list[PairFacts]:
    return [inspect_pair(info, rules, tasks, loader) for info in infos]


def _can_travel(work: partial[list[PairFacts]]) -> bool:
    """False for rules, tasks or a loader made of functions without a name, which cannot be sent: threads go on."""
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        importlib.import_module(module)
