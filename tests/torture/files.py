"""Checkpoints that run code when they are read carelessly, at a random one of the ways into the package."""

import random
from pathlib import Path

import hostile
from checkpoint_entries import ENTRIES

from .chain import Chain
from .child import run
from .trial import Outcome


def trial(chain: Chain, folder: Path, rng: random.Random) -> Outcome:
    """Nothing runs, and the file is named."""
    entry, kind = rng.choice(sorted(ENTRIES)), rng.choice(hostile.KINDS)
    watch = hostile.Watch(folder / 'ran')
    path = hostile.write(kind, folder / 'iter_1.pth', watch.marker, optimizer={}, param_schedulers=[])

    def read() -> None:
        try:
            ENTRIES[entry](path)
        finally:
            watch.assert_nothing_ran()

    ended = run(read, folder / 'log', 120.0)
    what = f'{kind} by {entry}'
    if watch.marker.exists() or 'eval was replaced' in ended.text:
        return Outcome(what, 'RAN', 'code of the file was run')
    if ended.how != 'raised' or ended.error != 'ValueError' or path.name not in ended.text:
        return Outcome(what, ended.how, f'not refused by name: {ended.error} {ended.text[:200]}')
    return Outcome(what, 'refused by name')
