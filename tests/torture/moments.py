"""Moments of a run by what it does with files: the 40th file event of the warm-up, and 0.1 s after it.

A moment in seconds from the start falls elsewhere on every machine and after every change of the code; an event is
reached by every run.
"""

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STAGES = ('checks', 'warmup', 'synthetic', 'self_improving', 'test')
"""In the order in which a chain comes to them; all but the first have a folder of the same name."""
TOLD = {'open', 'os.rename', 'os.remove', 'os.mkdir', 'os.truncate'}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Event:
    """A file was opened, made, renamed or removed in ``stage``, ``seconds`` after the start."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class Moment:
    """``wait`` seconds after event number ``event`` of a stage; event 0 of the checks is the start of the process."""

    stage: str
    event: int
    wait: float


class Events:
    """The events of one run, from the start; ``below``: the folder whose files count."""

    def __init__(self, below: Path, work_dir: Path):
        self.below, self.work_dir = str(below), work_dir
        self.seen: list[Event] = []
        self.started = time.monotonic()
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._rest = b''

    def tell(self) -> None:
        """In the process that is watched: tells of each event from now on."""
        own, writer, below = os.getpid(), self.writer, self.below

        def told(event: str, args: tuple) -> None:
            if event not in TOLD or not isinstance(args[0], (str, Path)) or os.getpid() != own:
                return
            path = str(args[0])
            if path.startswith(below):
                writes = event != 'open' or bool(args[2] & WRITING)
                os.write(writer, f'{time.monotonic()} {int(writes)} {path}\n'.encode(errors='replace'))

        os.write(writer, f'{time.monotonic()} 0 {below}\n'.encode())
        sys.addaudithook(told)

    def read(self) -> None:
        """In the process that watches: what was told since the last call."""
        while True:
            try:
                told = os.read(self.reader, 1 << 16)
            except BlockingIOError:
                return
            *lines, self._rest = (self._rest + told).split(b'\n')
            for line in lines:
                moment, writes, path = line.decode().split(' ', 2)
                self.seen.append(Event(self._stage(path if writes == '1' else ''), float(moment) - self.started))

    def _stage(self, written: str) -> str:
        """What is written to the folder of a stage is of that stage, and all that follows, until the next one's."""
        now = STAGES.index(self.seen[-1].stage) if self.seen else 0
        later = (stage for stage in STAGES[now + 1 :] if written.startswith(str(self.work_dir / stage)))
        return next(later, STAGES[now])

    def until(self, moment: Moment) -> float | None:
        """When the moment comes, as `time.monotonic` counts; None if its event has not been seen yet."""
        of_stage = (event for event in self.seen if event.stage == moment.stage)
        reached = next((event for number, event in enumerate(of_stage) if number == moment.event), None)
        return None if reached is None else self.started + reached.seconds + moment.wait

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


def moment_in(stage: str, straight: Sequence[Event], end: float, rng: random.Random, done: int = 0) -> Moment:
    """A random moment of a stage: half of them anywhere in its time, half of them while a file is in hand.

    Args:
        straight: Events of an undisturbed run, which took ``end`` seconds.
        done: As many events of the stage lie behind a run that goes on with it.
    """
    until = [event.seconds for event in straight[1:]] + [end]
    gaps = [after - event.seconds for event, after in zip(straight, until, strict=True) if event.stage == stage]
    gaps = gaps[: max(1, len(gaps) - done)]
    if rng.random() < 0.5:
        return Moment(stage, rng.randrange(len(gaps)), 0.0)
    number = rng.choices(range(len(gaps)), gaps)[0]
    return Moment(stage, number, rng.uniform(0.0, gaps[number]))


def count(events: Sequence[Event]) -> Counter[str]:
    """Stage → number of its events."""
    return Counter(event.stage for event in events)
