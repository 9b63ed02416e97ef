"""A store of created images, damaged in a random way: mended, or refused by name; never trained on as it is."""

import random
import shutil
from pathlib import Path

from damaged import DAMAGES

from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.synthesis.upkeep import remove_damaged

from .chain import LIMIT, Chain, difference, result
from .child import Ended, run
from .trial import BARE, Outcome

MANIFEST = 'synthetic/manifest.jsonl'


def trial(chain: Chain, folder: Path, rng: random.Random) -> Outcome:
    """The chain goes on with it; if it refuses to, `--verify` and the chain once more."""
    damage = rng.choice(sorted(DAMAGES))
    work_dir = folder / 'run'
    for stage in ('warmup', 'synthetic'):
        shutil.copytree(chain.straight / stage, work_dir / stage)
    store = work_dir / 'synthetic'
    place = DAMAGES[damage](store, rng)
    what = f'{damage}: {Path(place).relative_to(store)}'
    ended = run(lambda: chain.train(work_dir, True), folder / 'log', LIMIT)
    if ended.how == 'done':
        # A record that stands there twice is read once.
        expected, found = (
            {k: v for k, v in each.items() if k != MANIFEST} for each in (chain.expected, result(work_dir))
        )
        broken = difference(expected, found)
        return Outcome(what, 'mended by going on', broken and f'trained on it: {broken}')
    fault = unnamed(ended, store)
    if fault:
        return Outcome(what, 'unclear', fault)
    verified = run(lambda: remove_damaged(SampleStore(store)), folder / 'log', LIMIT)
    if verified.how == 'raised':
        return Outcome(what, 'refused by name', unnamed(verified, store))
    ended = run(lambda: chain.train(work_dir, True), folder / 'log', LIMIT)
    if ended.how == 'done':
        return Outcome(what, 'mended by --verify', difference(chain.expected, result(work_dir)))
    return Outcome(what, 'refused by name', unnamed(ended, store))


def unnamed(ended: Ended, store: Path) -> str:
    """What is wrong with the way in which it failed."""
    said = f'{ended.how}: {ended.error} {ended.text[:200]}'
    # A RuntimeError of one's own says what to do; one of a library does not name the store.
    if ended.how != 'raised' or ended.error in set(BARE) - {'RuntimeError'}:
        return said
    return '' if str(store) in ended.text else f'names no file of the store: {said}'
