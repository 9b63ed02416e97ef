"""One value of a config changed at random: refused before anything is made, in words that name it, or without harm.

A change that nobody can have meant (`mutations.NEVER_MEANT`) must be refused, or leave the result as it is to the bit.
"""

import hashlib
import json
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mutations import NEVER_MEANT, mutations
from tiny_configs import tiny_configs

from mmdiff2in1.training.chain import train, train_plain

from .chain import Chain, difference
from .child import Ended, run
from .trial import BARE, Outcome

LIMIT = 300.0
"""Seconds after which a training of two steps hangs, or the checks before it."""


def trial(chain: Chain, folder: Path, rng: random.Random) -> Outcome:
    """A mutation of one of the configs."""
    configs = tiny_configs(chain.folder)
    kind = rng.choice(sorted(configs))
    place, how, cfg = next(iter(mutations(configs[kind](), rng)))
    way = next((each for each in NEVER_MEANT if how.startswith(each)), '')
    ended = run(lambda: start(cfg, folder / 'run', to_the_end=bool(way)), folder / 'log', LIMIT)
    came, broken = judged(ended, folder / 'run', names(place, how, configs[kind]()))
    if came == 'accepted' and way:
        broken = difference(straight(chain, kind), made_by(folder / 'run'))
        came = 'accepted, wrong result' if broken else 'accepted, same result'
    elif came == 'accepted':
        came = 'accepted, as it may be meant'
    return Outcome(f'{kind} {".".join(map(str, place))}: {how}', came, broken)


COMMON = ('model', 'head', 'dataset', 'stages', 'warmup', 'segmentor')
"""Keys that say little of where something stands."""
PATHS = ('_path', '_root', 'diffusion', 'captions', 'checkpoint')


class BeginsError(Exception):
    """All checks are passed."""


def start(cfg: Config, work_dir: Path, to_the_end: bool = True) -> None:
    """As ``tools/train.py`` does; else until the first stage trains."""
    if not to_the_end:
        Runner.train = _begins
    if 'stages' in cfg:
        train(cfg, work_dir)
    else:
        train_plain(cfg, work_dir)


def _begins(runner: Runner) -> None:
    raise BeginsError


def judged(ended: Ended, work_dir: Path, wanted: Sequence[str]) -> tuple[str, str]:
    """What came of it, and what is wrong with that; ``wanted``: words one of which a refusal has to say."""
    begun = any(file.suffix in ('.png', '.log', '.pth') for file in work_dir.rglob('*') if file.is_file())
    said = f'{ended.error}: {ended.text[:400]}'
    if ended.how == 'done' or ended.error == 'BeginsError':
        return 'accepted', ''
    if begun:
        return 'found late', f'{ended.how} after the start: {said}'
    if ended.how != 'raised':
        return ended.how, f'it {ended.how} before the start {ended.error}'
    fault = unclear(ended, wanted)
    return ('unclear', fault) if fault else ('refused early', '')


def unclear(ended: Ended, wanted: Sequence[str]) -> str:
    """What a reader of the error misses."""
    named = any(re.search(rf'(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])', ended.text) for name in wanted)
    return '' if named and ended.error not in BARE else f'{ended.error}: {ended.text[:400]}'


def names(place: Sequence[str | int], how: str, config: Config) -> list[str]:
    """What a refusal may call the changed entry: its key, the one around it, the class, the old value, the slip.

    Of a path any file will do: an empty one leads to others.
    """
    value, around = config, []
    for step in place:
        if isinstance(value, dict) and isinstance(value.get('type'), str):
            around.append(value['type'])
        value = value[step]
    keys = [step for step in place if isinstance(step, str)]
    found = keys[-1:] + [key for key in keys[-2:-1] if key not in COMMON] + around[-1:]
    if isinstance(value, str) and value:
        found.append(value)
    if keys[-1].endswith(PATHS):
        found.append('scenes')
    slip = re.match(r'(?:misspelt key|misspelt value) \W*([\w./:-]+)', how)
    return [*found, *([slip[1]] if slip else []), *(['no_such_setting'] if how.startswith('unknown') else [])]


def straight(chain: Chain, kind: str) -> dict[str, str]:
    """What the config gives as it is; made when it is first asked for, in a process of its own."""
    file = chain.folder / f'expected-{kind}.json'
    if not file.is_file():
        work_dir = chain.folder / f'{kind}-{os.getpid()}'
        ended = run(lambda: start(tiny_configs(chain.folder)[kind](), work_dir), work_dir.with_suffix('.log'), LIMIT)
        if ended.how != 'done':
            raise RuntimeError(f'{kind} as it is {ended.how}: {ended.error} {ended.text}')
        part = file.with_suffix(f'.{os.getpid()}')
        part.write_text(json.dumps(made_by(work_dir)))
        part.rename(file)
    return json.loads(file.read_text())


def made_by(work_dir: Path) -> dict[str, str]:
    """Name → digest of the last weights of each folder and the images, and the figures of the test."""
    found = {}
    last = {file.parent: file for file in sorted(work_dir.rglob('*.pth'), key=lambda file: file.stat().st_mtime)}
    for folder, file in last.items():
        for name, tensor in torch.load(file, map_location='cpu', weights_only=False)['state_dict'].items():
            digest = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
            found[f'{folder.relative_to(work_dir)}/{name}'] = digest
    for file in sorted((work_dir / 'synthetic').rglob('*.png')):
        found[str(file.relative_to(work_dir))] = hashlib.sha256(file.read_bytes()).hexdigest()
    results = work_dir / 'results.json'
    if results.is_file():
        found |= {f'test {name}': str(value) for name, value in json.loads(results.read_text())['test'].items()}
    return found
