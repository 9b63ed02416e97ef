"""The way of one row: plain → wrapped without a store → mixed → test → export → the original config again."""

import contextlib
import copy
import importlib
import io
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import mmseg
import torch
from mmengine.config import Config
from mmengine.runner import Runner

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.__main__ import main
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.testing import test_models
from mmdiff2in1.training.wrapping import wrap_config

from .catalogue import Row
from .recording_hook import recorded_losses, recorded_predictions
from .several import train_in_processes
from .small import BATCH, make_small
from .tiny_data import make_store

SHIPPED = Path(mmseg.__file__).parent / '.mim' / 'configs'
MOST = 300
"""Letters of a message that are kept."""


class DifferentError(Exception):
    """Two things that must be equal are not."""


def walk(row: Row, folder: Path) -> dict[str, Any]:
    """Takes a row as far as it goes.

    Args:
        row: One of the catalogue.
        folder: Gets ``data`` and ``store``, which rows share, and ``runs``, a folder for each.

    Returns:
        A line of docs/families.jsonl: ``ended`` is ``whole``, ``refused`` where that was expected, ``not here`` where a
        module is missing, or the step that failed, with ``reason``; besides, what the steps have found.
    """
    line: dict[str, Any] = dict(row=row.name, family=row.family, setting=row.setting, config=row.config)
    start = time.perf_counter()
    missing = [name for name in row.needs if not _is_there(name)]
    if missing:
        return line | dict(ended='not here', reason=f'needs {", ".join(missing)}, which is not installed')
    found: dict[str, Any] = {}
    for step, do in _steps(row, folder, found):
        try:
            with unformatted(), torch.random.fork_rng():
                do()
        except Exception as error:
            said = str(error).replace(f'{folder}/', '')  # a temporary one, another each time
            reason = ' '.join(said.split())[:MOST] or type(error).__name__
            if step == 'wrap' and row.refused and row.refused in reason:
                return line | dict(ended='refused', reason=reason)
            return line | found | dict(ended=step, reason=reason)
    if row.refused:
        return line | found | dict(ended='wrap', reason=f'{row.refused} was not refused')
    return line | found | dict(ended='whole', seconds=round(time.perf_counter() - start, 1))


def small_config(row: Row, data: Path) -> Config:
    """The config of a row at its tiny size."""
    cfg = read_config(SHIPPED / row.config)
    make_small(cfg, data, row.side, row.narrower)
    whole = {key: value for key, value in row.changes.items() if isinstance(value, list) or callable(value)}
    cfg.merge_from_dict({key: value for key, value in row.changes.items() if key not in whole})
    for key, value in whole.items():
        outer, _, last = key.rpartition('.')
        part = cfg
        for name in outer.split('.') if outer else ():
            part = part[name]
        part[last] = value(part[last]) if callable(value) else value
    return cfg


def _steps(row: Row, folder: Path, found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    work = folder / 'runs' / row.name.replace('/', '-')
    store = make_store(folder / 'store')
    cfgs: dict[str, Config] = {}

    def runs(cfg: Config, work_dir: Path) -> None:
        if row.processes > 1:
            train_in_processes(copy.deepcopy(cfg), work_dir, row.processes, 'plain')
        else:
            as_mmseg_trains(cfg, work_dir)

    def plain() -> None:
        cfgs['plain'] = small_config(row, folder / 'data')
        runs(cfgs['plain'], work / 'plain')
        found['losses'] = [_total(terms) for terms in recorded_losses(work / 'plain')]

    def wrap() -> None:
        # Random weights are sure of nothing: without a threshold, so that the created images teach something.
        rule = dict(type='TeacherLabel')
        settings: dict[str, Any] = dict(store=str(store), label_rule=rule, warmup=False, samples_per_update=BATCH)
        cfgs['mixed'] = wrap_config(cfgs['plain'], 'careful', **settings)

    def no_store() -> None:
        alone = copy.deepcopy(cfgs['mixed'])
        alone.train_dataloader.dataset.update(store=None, mix='uniform')
        alone.train_dataloader.pop('batch_sampler')
        runs(alone, work / 'no_store')
        before, after = recorded_losses(work / 'plain'), recorded_losses(work / 'no_store')
        if before != after:
            wrong = next((i for i, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), -1)
            raise DifferentError(f'step {wrong + 1}: plain {before[wrong]}, wrapped {after[wrong]}')
        found['equal_losses'] = len(before)

    def mixed() -> None:
        cfg = copy.deepcopy(cfgs['mixed'])
        cfg.stages, cfg.load_from = {}, str(_last(work / 'plain'))
        if row.processes > 1:
            train_in_processes(cfg, work / 'mixed', row.processes, 'chain')
            results = json.loads((work / 'mixed' / 'results.json').read_text())
        else:
            results = train(cfg, work / 'mixed')
        steps = recorded_losses(work / 'mixed' / 'self_improving')
        kept = [value for terms in steps for name, value in terms.items() if name.startswith('kept_share')]
        taught = [
            value
            for terms in steps
            for name, value in terms.items()
            if name.startswith('synthetic/') and 'loss' in name
        ]
        if not kept or not taught or not all(map(math.isfinite, taught)):
            raise DifferentError(f'no synthetic loss: {steps[-1]}')
        found['kept_share'] = round(sum(kept) / len(kept), 4)
        found['synthetic_loss'] = round(sum(taught) / len(steps), 4)
        found['checkpoint'] = results['self_improving']['checkpoint']
        found['metrics'] = {name: value for name, value in results['test'].items() if '/' not in name}

    def export() -> None:
        checkpoint, out = found.pop('checkpoint'), work / 'creator.pth'
        with contextlib.redirect_stdout(io.StringIO()):
            main(['export', checkpoint, '--out', str(out)])
        test_models(copy.deepcopy(cfgs['mixed']), checkpoint, work / 'creator')
        metrics = test_models(copy.deepcopy(cfgs['plain']), out, work / 'original', (None,))
        wrapped, original = (recorded_predictions(work / name) for name in ('creator', 'original'))
        if len(wrapped) != len(original) or not all(map(torch.equal, wrapped, original)):
            most = max(float((a - b).abs().max()) for a, b in zip(wrapped, original, strict=True))
            raise DifferentError(f'predictions differ by up to {most:.3g}')
        if {name: metrics[name] for name in found['metrics']} != found['metrics']:
            raise DifferentError(f'metrics: {found["metrics"]} of θ_C, {metrics} of the export')
        found['same_predictions'] = len(original)

    yield from dict(plain=plain, wrap=wrap, no_store=no_store, mixed=mixed, export=export).items()


def as_mmseg_trains(cfg: Config, work_dir: Path) -> None:
    """Trains a config by nothing but mmengine's runner."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir, cfg.experiment_name = str(work_dir), f'{work_dir.name}-{time.time_ns()}'
    cfg.visualizer.name = cfg.experiment_name  # mmengine keeps visualizers by name
    Runner.from_cfg(cfg).train()


def unformatted() -> Any:
    """A context: mmengine lays out a config beautifully three times for each run, which takes longer than that."""
    return mock.patch('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _total(terms: dict[str, float]) -> float:
    return terms.get('loss', math.nan)


def _last(folder: Path) -> Path:
    return Path((folder / 'last_checkpoint').read_text().strip())
