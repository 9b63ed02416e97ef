"""Killed at a random moment of a random stage, up to three times, and resumed: as if nothing had happened."""

import random
import shutil
from collections.abc import Mapping
from pathlib import Path

from .chain import LIMIT, STAGES, Chain, difference, result
from .child import run
from .trial import Outcome

FOLDERS = ('warmup', 'synthetic')


def trial(chain: Chain, folder: Path, rng: random.Random) -> Outcome:
    """One run, with the stages before the one to be killed taken from the straight run."""
    stage = rng.choice(STAGES)
    work_dir = folder / 'run'
    for done in FOLDERS[: max(0, STAGES.index(stage) - 1)]:
        shutil.copytree(chain.straight / done, work_dir / done)
    if stage == 'test':
        shutil.copytree(chain.straight / 'self_improving', work_dir / 'self_improving')
    reached, kills = [], rng.choice((1, 1, 2, 3))
    for number in range(kills):
        moment = rng.uniform(*span(chain.ends, stage))
        ended = run(lambda first=number == 0: chain.train(work_dir, not first), folder / 'log', LIMIT, moment)
        if ended.how == 'raised':
            return Outcome(f'{stage}, kill {number + 1}', 'error', f'{ended.error}: {ended.text}')
        if ended.how != 'killed':
            break
        reached.append(f'{reached_stage(work_dir)} after {ended.seconds:.2f} s')
    ended = run(lambda: chain.train(work_dir, True), folder / 'log', LIMIT)
    what = f'aimed at {stage}; ' + (', '.join(reached) or 'it ended before the kill')
    if ended.how != 'done':
        return Outcome(what, 'error', f'resumed, it {ended.how}: {ended.error} {ended.text}')
    broken = difference(chain.expected, result(work_dir)) or left_over(work_dir)
    came = f'in {reached[0].split(" after")[0]}' if reached else 'ended before the kill'
    return Outcome(what, came, broken)


def span(ends: Mapping[str, float], stage: str) -> tuple[float, float]:
    """From when to when, after the start, a stage is at work if the ones before it are finished."""
    before = STAGES[STAGES.index(stage) - 1]
    checks = ends['checks']
    return (0.0, checks) if stage == 'checks' else (0.8 * checks, checks + ends[stage] - ends[before])


def reached_stage(work_dir: Path) -> str:
    """Where a killed run was."""
    marks = (
        ('results.json', 'the end'),
        ('self_improving/finished.json', 'test'),
        ('self_improving/begun.json', 'self_improving'),
        ('warmup/finished.json', 'synthetic'),
        ('warmup/begun.json', 'warmup'),
    )
    return next((stage for mark, stage in marks if (work_dir / mark).is_file()), 'checks')


def left_over(work_dir: Path) -> str:
    """Files of a killed process that nobody has cleared away."""
    parts = sorted(str(file.relative_to(work_dir)) for file in work_dir.rglob('*.part'))
    return f'left over: {", ".join(parts[:3])}' if parts else ''
