"""The chain that is tortured, once from the beginning to the end without trouble: what others are compared with."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from conftest import TINY_DIFFUSION
from mmengine.config import Config
from tiny_chain import chain_config, final_state, prepare

from mmdiff2in1.training.chain import train

from .child import make_forks_cheap, run
from .moments import Events

LIMIT = 600.0
"""Seconds after which a chain of some twenty hangs."""


class Chain:
    """Tiny weights, eight scenes, and a straight run in ``folder``.

    Attributes:
        events: What the straight run did with files, in ``seconds``.
        expected: What :func:`result` found of it.
    """

    def __init__(self, folder: Path):
        self.folder, self.straight = folder, folder / 'straight'
        folder.mkdir(parents=True, exist_ok=True)
        os.environ['MMDIFF2IN1_CACHE'] = str(folder / 'cache')
        prepare(folder, TINY_DIFFUSION)
        make_forks_cheap()
        ended = run(lambda: self.train(self.straight), folder / 'straight.log', LIMIT, self.watch(self.straight))
        if ended.how != 'done':
            raise RuntimeError(f'the straight run {ended.how}: {ended.error} {ended.text}; see {folder}/straight.log')
        self.events, self.seconds = ended.events, ended.seconds
        self.expected = result(self.straight)

    def watch(self, work_dir: Path) -> Events:
        """For what a run in ``work_dir`` does with its files, the data and the weights."""
        return Events(self.folder.parent, work_dir)

    def config(self) -> Config:
        """The chain's config."""
        return chain_config(self.folder)

    def train(self, work_dir: Path, resume: bool = False) -> dict:
        """The chain in this process."""
        return train(self.config(), work_dir, resume)


def result(work_dir: Path) -> dict[str, str]:
    """Name → digest or value of all that a run gives: weights, optimizer, created images, labels, scores."""
    found = {}
    for stage in ('warmup', 'self_improving'):
        for name, tensor in final_state(work_dir, stage).items():
            found[f'{stage}/{name}'] = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
    for file in files_of(work_dir / 'synthetic'):
        found[f'synthetic/{file.relative_to(work_dir / "synthetic")}'] = hashlib.sha256(file.read_bytes()).hexdigest()
    results = json.loads((work_dir / 'results.json').read_text())
    for part in ('warmup', 'self_improving'):
        found |= {f'{part} val {name}': str(value) for name, value in results[part]['metrics'].items()}
    return found | {f'test {name}': str(value) for name, value in results['test'].items()}


def files_of(store: Path) -> list[Path]:
    """The files of a store that are part of the result: the manifest, images and labels."""
    return sorted(file for file in store.rglob('*') if file.suffix in ('.png', '.jsonl') and not file.name[0] == '.')


def difference(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, in words; empty if nothing does."""
    names = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    return f'{len(names)} of {len(expected)} parts of the result differ, e.g. {names[0]}' if names else ''
