"""Two ways of doing the same: whether they agree, how long they take by turns, and what they hold at most."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from .. import memory
from ..estimate import Alive

SIDES = ('theirs', 'ours')
Clock = Callable[[], float]


@dataclass(frozen=True)
class Side:
    """One of two ways.

    Attributes:
        step: What is timed.
        outputs: Name → what both must agree on, in single precision; random draws are taken out of it.
        held: The tensors that are there between two steps: weights, gradients, moments of the optimizer.
    """

    step: Callable[[], Any]
    outputs: Callable[[], dict[str, Tensor]]
    held: Callable[[], list[Tensor]]


@dataclass(frozen=True)
class Pair:
    """Both ways of a row."""

    theirs: Side
    ours: Side


def disagreement(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, float]:
    """Name → largest difference, relative to the largest entry of theirs.

    Raises:
        ValueError: The sides name other outputs, or an output has another shape on either side.
    """
    if theirs.keys() != ours.keys():
        raise ValueError(f'outputs of theirs: {", ".join(theirs)}; of ours: {", ".join(ours)}')
    found = {}
    for name, expected in theirs.items():
        given = ours[name]
        if given.shape != expected.shape:
            raise ValueError(f'{name}: theirs is {tuple(expected.shape)}, ours {tuple(given.shape)}')
        expected, given = expected.detach().double(), given.detach().double()
        scale = expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        found[name] = ((given - expected).abs().max() / scale).nan_to_num(torch.inf).item()
    return found


def by_turns(
    pair: Pair, pairs: int, device: str, clock: Clock = time.perf_counter, processor: Clock = time.process_time
) -> dict[str, dict[str, list[float]]]:
    """Side → seconds and core_seconds of its steps: theirs, ours, theirs, ours, … A first one of each does not count.

    Args:
        pair: The sides.
        pairs: How many of each.
        device: A GPU is waited for before the clocks are read.
        clock: Seconds that go by.
        processor: Seconds that this process works.
    """
    steps = dict(zip(SIDES, (pair.theirs.step, pair.ours.step), strict=True))
    found: dict[str, dict[str, list[float]]] = {side: dict(seconds=[], core_seconds=[]) for side in SIDES}
    for turn in range(pairs + 1):
        for side, step in steps.items():
            _wait(device)
            before = clock(), processor()
            step()
            _wait(device)
            after = clock(), processor()
            if turn:
                for name, start, end in zip(('seconds', 'core_seconds'), before, after, strict=True):
                    found[side][name].append(end - start)
    return found


def compared(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Medians of either side; of theirs / ours in each pair the median, the least and the largest."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return dict(
        theirs=median(theirs), ours=median(ours), ratio=median(ratios), ratio_min=min(ratios), ratio_max=max(ratios)
    )


def peak_bytes(side: Side, device: str) -> int:
    """Bytes of tensors of this side at the peak of a step, what it holds before among them.

    On a CPU every tensor is followed; on a GPU it is what torch's allocator says.
    """
    alive = Alive(device)
    alive.add(side.held())
    if device == 'cpu':
        with alive:
            side.step()
        return alive.peak
    before = torch.cuda.memory_allocated()
    memory.reset_peak(device)
    side.step()
    _wait(device)
    return alive.bytes + torch.cuda.max_memory_allocated() - before


def _wait(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()
