"""How long a step takes, without making a GPU wait between steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch


@dataclass(frozen=True)
class Times:
    """Seconds of each repeat; `cores`: how many of the CPU's cores worked on it, on average (None on a GPU)."""

    seconds: tuple[float, ...]
    cores: float | None = None

    def record(self) -> dict[str, Any]:
        """As it stands in the JSON lines."""
        low, high = min(self.seconds), max(self.seconds)
        found = dict(seconds=median(self.seconds), seconds_min=low, seconds_max=high, repeats=len(self.seconds))
        return found if self.cores is None else found | dict(cores=round(self.cores, 2))


def measure(step: Callable[[], Any], device: str, repeats: int, budget: float) -> Times:
    """Times up to `repeats` calls of `step`: as many as fit into `budget` seconds, judged by the first; at least one.

    On a GPU events stand between the calls; it is waited for after the first call and after the last.
    """
    if device == 'cpu':
        return _on_cpu(step, repeats, budget)
    first = _on_gpu(step, 1)
    more = min(repeats - 1, int(budget / max(first[0], 1e-9)) - 1)
    # The first one alone includes filling the queue; it counts only where it is the only one.
    return Times(_on_gpu(step, more)) if more > 0 else Times(first)


def _on_cpu(step: Callable[[], Any], repeats: int, budget: float) -> Times:
    seconds: list[float] = []
    worked = time.process_time()
    while len(seconds) < repeats and (not seconds or sum(seconds) + seconds[0] <= budget):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    # Below the number of threads, others were using the machine, too.
    return Times(tuple(seconds), (time.process_time() - worked) / sum(seconds))


def _on_gpu(step: Callable[[], Any], repeats: int) -> tuple[float, ...]:
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize()
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize()
    return tuple(start.elapsed_time(end) / 1000 for start, end in zip(marks, marks[1:], strict=False))
