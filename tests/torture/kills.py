"""Killed at a random moment of a random stage, up to three times, and resumed: as if nothing had happened."""

import random
import shutil
from pathlib import Path

from .chain import LIMIT, Chain, difference, result
from .child import run
from .moments import STAGES, count, moment_in
from .trial import Outcome

FOLDERS = ('warmup', 'synthetic')


def trial(chain: Chain, folder: Path, rng: random.Random) -> Outcome:
    """One run, with the stages before the one to be killed taken from the straight run."""
    stage = rng.choice(STAGES)
    work_dir = folder / 'run'
    for made in FOLDERS[: max(0, STAGES.index(stage) - 1)]:
        shutil.copytree(chain.straight / made, work_dir / made)
    if stage == 'test':
        shutil.copytree(chain.straight / 'self_improving', work_dir / 'self_improving')
    aimed, reached, done, kills = stage, [], 0, rng.choice((1, 1, 2, 3))
    for number in range(kills):
        moment = moment_in(aimed, chain.events, chain.seconds, rng, done)
        ended = run(
            lambda first=number == 0: chain.train(work_dir, not first),
            *(folder / 'log', LIMIT, chain.watch(work_dir), moment),
        )
        if ended.how == 'raised':
            return Outcome(f'{stage}, kill {number + 1}', 'error', f'{ended.error}: {ended.text}')
        if ended.how != 'killed':
            break
        now = ended.events[-1].stage if ended.events else 'checks'
        reached.append(f'{now} at event {count(ended.events)[now]}, {ended.seconds:.2f} s')
        # Goes on with what is unfinished; its checks come again.
        unfinished = reached_stage(work_dir)
        aimed = rng.choice(['checks', *STAGES[max(1, STAGES.index(unfinished)) :]])
        done = count(ended.events)[aimed] if aimed == unfinished else 0
    ended = run(lambda: chain.train(work_dir, True), folder / 'log', LIMIT)
    what = f'aimed at {stage}; ' + (', '.join(reached) or 'it ended before the kill')
    if ended.how != 'done':
        return Outcome(what, 'error', f'resumed, it {ended.how}: {ended.error} {ended.text}')
    broken = difference(chain.expected, result(work_dir)) or left_over(work_dir)
    came = f'in {reached[0].split(" at")[0]}' if reached else 'ended before the kill'
    return Outcome(what, came, broken)


def reached_stage(work_dir: Path) -> str:
    """The stage that a killed run has not finished."""
    marks = (
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
