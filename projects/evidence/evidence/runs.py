"""The runs of an experiment: read from JSON lines, checked, and looked up by arm and seed."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REAL_ONLY, CONTROL, LOOP = 'real only', 'real + EMA', 'Diff-2-in-1'
# The order of rows, columns and panels; any other arm follows by name.
ARMS = (
    REAL_ONLY,
    CONTROL,
    'self-distillation',
    LOOP,
    'Diff-2-in-1, best',
    'Diff-2-in-1, T range',
    'new scenes, T_max',
    'new scenes, T range',
    'unlabelled',
    'unlabelled, best',
    'unlabelled, true labels',
    'synthetic only',
)
SETS, BLOCKS = ('scenes', 'camvid'), ('main', 'range', 'knobs', 'ready', 'finetune', 'camvid')
SETTINGS = ('knobs', 'ready', 'finetune')
"""Blocks that compare settings on val, each beside references of its own."""


@dataclass(frozen=True)
class Metric:
    """The one number of a task by which arms are compared."""

    key: str  # in the `val` and `test` of a line
    name: str
    unit: str
    lower_is_better: bool
    digits: int  # after the point


METRICS = {
    'normal': Metric('mean', 'mean angular error', 'degrees', True, 2),
    'semantic_segmentation': Metric('mIoU', 'mIoU', 'percent', False, 2),
    'depth': Metric('rmse', 'RMSE', 'metres', True, 3),
}


@dataclass(frozen=True)
class Run:
    """One trained arm: its key and its scores in the task's metric, of θ_C (of θ_E for "real only")."""

    data_set: str
    task: str
    labels: int  # labelled images
    seed: int
    arm: str
    block: str
    val: float
    test: float | None  # None: never tested
    curve: tuple[tuple[int, ...], tuple[float, ...]]  # steps, and `val` at each
    stages: tuple[int, int] | None = None  # steps of the warm-up and of the stage behind it, where the line has them

    @property
    def reported(self) -> float:
        """The score that tables show: on the test part of scenes; camvid has none, and knobs are chosen on val."""
        return self.val if part_of(self.data_set, self.block) == 'val' else self.test

    def __str__(self) -> str:
        return f'{self.data_set}, {self.task}, {self.labels} labels, seed {self.seed}, {self.arm!r}, {self.block}'


def part_of(data_set: str, block: str = 'main') -> str:
    """The part of the data that scores of a block are reported on."""
    return 'test' if data_set == 'scenes' and block not in SETTINGS else 'val'


def arm_order(arm: str) -> tuple[int, str]:
    """Sort key: the known arms in their order, then the others by name."""
    return (ARMS.index(arm) if arm in ARMS else len(ARMS), arm)


def arms_of(runs: Iterable[Run]) -> list[str]:
    """The arms that have a run, in the order of rows."""
    return sorted({run.arm for run in runs}, key=arm_order)


def followed_arms(runs: Sequence[Run]) -> list[str]:
    """The arms, without the control, that were run with more than one number of labels; of one set and task."""
    return [arm for arm in arms_of(runs) if arm != CONTROL and len({run.labels for run in runs if run.arm == arm}) > 1]


def scores(runs: Iterable[Run], arm: str, part: str | None = None) -> dict[int, float]:
    """Seed → score of the runs of an arm; `part` 'val' instead of the part that is reported."""
    return {run.seed: run.val if part == 'val' else run.reported for run in runs if run.arm == arm}


def read_runs(path: str | Path) -> list[Run]:
    """Every run of a JSON-lines file; blank lines are passed over.

    Raises ValueError, with file and line, if a line is not a run, repeats the key of another or was trained for another
    number of steps than the rest of its block, and if there is none.
    """
    found: dict[tuple, int] = {}
    stages: dict[tuple, tuple] = {}
    runs = []
    for number, line in enumerate(Path(path).read_text(encoding='utf-8').splitlines(), 1):
        if not line.strip():
            continue
        try:
            run = _run(json.loads(line))
        except ValueError as error:
            raise ValueError(f'{path}:{number}: {error}') from None
        key = (run.data_set, run.task, run.labels, run.seed, run.arm, run.block if run.block in SETTINGS else None)
        if key in found:
            raise ValueError(f'{path}:{number}: the same run as line {found[key]} ({run}); remove one of the two')
        found[key] = number
        first = stages.setdefault((run.data_set, run.task, run.labels, run.block), (run.stages, number))
        if run.stages != first[0]:
            raise ValueError(
                f'{path}:{number}: steps {run.stages}, but line {first[1]} of the same block has {first[0]}; runs of '
                'different length are not compared: remove the older ones'
            )
        runs.append(run)
    if not runs:
        raise ValueError(f'{path}: no runs; expected one JSON object per line')
    return runs


def _run(entry: Any) -> Run:
    if not isinstance(entry, dict):
        raise ValueError(f'found {type(entry).__name__}, expected a JSON object')
    data_set, task, block = _known(entry, 'set', SETS), _known(entry, 'task', METRICS), _known(entry, 'block', BLOCKS)
    arm = _value(entry, 'arm', str)
    metric = METRICS[task].key
    val = _score(entry, 'val', metric)
    tested = entry.get('test') is not None
    if part_of(data_set, block) == 'test' and not tested:
        raise ValueError(f"test is null, expected {metric!r}: the block {block!r} of 'scenes' is reported on test")
    run = Run(
        data_set=data_set,
        task=task,
        labels=_value(entry, 'labels', int),
        seed=_value(entry, 'seed', int),
        arm=arm,
        block=block,
        val=val,
        test=_score(entry, 'test', metric) if tested else None,
        curve=_curve(entry.get('curve') or {'step': [], 'val': []}),
        stages=_stages(entry['steps']) if 'steps' in entry else None,
    )
    if run.labels < 1:
        raise ValueError(f'labels is {run.labels}, expected 1 or more')
    if arm == REAL_ONLY and entry.get('exploiter'):
        _check_exploiter(run, entry['exploiter'], metric)
    return run


def _check_exploiter(run: Run, exploiter: Any, metric: str) -> None:
    """This arm has no moving average, so a line whose own score is another than θ_E's shows the wrong weights."""
    theirs = _score(exploiter if isinstance(exploiter, dict) else {}, 'val', metric)
    if theirs != run.val:
        raise ValueError(f'val is {run.val} and that of exploiter {theirs}, expected θ_E in both for {REAL_ONLY!r}')


def _value(entry: dict, key: str, kind: type) -> Any:
    value = entry.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = repr(value) if key in entry else 'missing'
        raise ValueError(f'{key} is {found}, expected {kind.__name__}')
    return value


def _known(entry: dict, key: str, known: Iterable[str]) -> str:
    value = _value(entry, key, str)
    if value not in known:
        raise ValueError(f'{key} is {value!r}, known are {", ".join(known)}')
    return value


def _stages(steps: Any) -> tuple[int, int]:
    if not isinstance(steps, dict):
        raise ValueError(f'steps is {steps!r}, expected an object with warmup and self_improving')
    return _value(steps, 'warmup', int), _value(steps, 'self_improving', int)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _score(entry: dict, part: str, metric: str) -> float:
    value = _value(entry, part, dict).get(metric)
    if not _is_number(value):
        raise ValueError(f'{metric!r} of {part} is {value!r}, expected a finite number')
    return float(value)


def _curve(curve: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if not isinstance(curve, dict):
        raise ValueError(f'curve is {curve!r}, expected an object with step and val')
    steps, values = _value(curve, 'step', list), _value(curve, 'val', list)
    if len(steps) != len(values) or not all(map(_is_number, [*steps, *values])):
        raise ValueError(
            f'curve has {len(steps)} of step and {len(values)} of val, expected as many finite numbers of each'
        )
    return tuple(steps), tuple(map(float, values))
