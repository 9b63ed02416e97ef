"""Pairs read by all cores: what is found of them comes back in their order."""

import contextlib
import importlib
import io
import pickle
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial

from mmdiff2in1.core.ahead import ahead, together
from mmdiff2in1.core.processes import process_pool, usable_cores
from mmdiff2in1.tasks import DenseTask

from .labels import LabelRules

with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
    # A process of the pool imports this first: what mmcv and mmseg have to say has been said.
    warnings.simplefilter('ignore')
    from .pair import PairFacts, inspect_pair

PATIENCE = 2.0
"""Seconds for which this process reads alone, before it looks how long the rest would take."""
WORTH = 15.0
"""Seconds of reading that are worth the start of other processes, which import torch first."""
TOGETHER = 16
"""Pairs that a process is given at a time."""


class PairReader:
    """`inspect_pair` of many pairs, for sets of any number; to be used as a context.

    Args:
        workers: Processes; None: one for each core that this one may use, 1: this one alone.
        modules: Imported in each process before it reads, as custom_imports of a config are.
    """

    def __init__(self, workers: int | None, modules: Sequence[str] = ()) -> None:
        self.workers = workers or usable_cores()
        self._modules = modules
        self._stack = ExitStack()
        self._pool: ProcessPoolExecutor | None = None

    def read(
        self, infos: Sequence[Mapping], rules: LabelRules | None, tasks: Mapping[str, DenseTask]
    ) -> Iterator[PairFacts]:
        """Facts of each pair, in order."""
        work = partial(inspect_pair, rules=rules, tasks=tasks)
        start = time.monotonic()
        for number, info in enumerate(infos):
            yield work(info)
            seconds = time.monotonic() - start
            if seconds >= PATIENCE:
                left = infos[number + 1 :]
                is_long = seconds / (number + 1) * len(left) >= WORTH
                yield from self._by_processes(left, work) if is_long and self._helps(work) else map(work, left)
                return

    def _helps(self, work: partial[PairFacts]) -> bool:
        """False for rules or tasks made of functions without a name, which cannot be sent: this process reads alone."""
        if self.workers == 1:
            return False
        try:
            pickle.dumps(work)
        except (pickle.PicklingError, AttributeError, TypeError):
            return False
        return True

    def _by_processes(self, infos: Sequence[Mapping], work: partial[PairFacts]) -> Iterator[PairFacts]:
        if self._pool is None:
            self._pool = self._stack.enter_context(process_pool(self.workers, [__name__], _import, self._modules))
        for found in ahead(self._pool, partial(_inspect, work), together(infos, TOGETHER), most=2 * self.workers):
            yield from found

    def __enter__(self) -> 'PairReader':
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def _inspect(work: partial[PairFacts], infos: Iterable[Mapping]) -> list[PairFacts]:
    return [work(info) for info in infos]


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        importlib.import_module(module)
