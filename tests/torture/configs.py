"""One value of a config changed at random: refused before the start with words, or the chain runs to its end."""

import random
from pathlib import Path

from mutations import mutations

from mmdiff2in1.training.chain import train

from .chain import LIMIT, Chain
from .child import Ended, run
from .trial import BARE, Outcome


def trial(chain: Chain, folder: Path, rng: random.Random) -> Outcome:
    """A mutation of the chain's config."""
    name, cfg = next(iter(mutations(chain.config(), rng)))
    work_dir = folder / 'run'

    ended = run(lambda: train(cfg, work_dir), folder / 'log', LIMIT)
    if ended.how == 'done':
        return Outcome(name, 'runs to its end')
    if ended.how != 'raised':
        return Outcome(name, ended.how, f'it {ended.how} {ended.error}')
    if any((work_dir / stage / 'begun.json').is_file() for stage in ('warmup', 'self_improving')):
        return Outcome(name, 'found late', f'after the start: {ended.error}: {ended.text[:200]}')
    fault = unclear(ended, name)
    return Outcome(name, 'unclear' if fault else 'refused early', fault)


def unclear(ended: Ended, name: str) -> str:
    """What a reader of the error misses."""
    key = name.split('=')[0].split(':')[0].strip().split('.')[-1]
    if ended.error in BARE or (key not in ended.text and len(ended.text) < 20):
        return f'{ended.error}: {ended.text[:200]}'
    return ''
