"""Contents of a work dir: which stages are finished, their metrics, curves and checkpoints. Nothing is trained here.

θ_C is the creator, θ_E the exploiter, whose figures stand below `exploiter/`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmdiff2in1.engine.last_checkpoint import last_checkpoint
from mmdiff2in1.engine.stage_folder import BEGUN, finished_facts
from mmdiff2in1.training.stages import store_of
from mmdiff2in1.visualization import read_scalars
from mmdiff2in1.visualization.curves import PANELS, SCORES, Curves


@dataclass(frozen=True)
class Stage:
    """A training of a run. `reached`: the last iteration that is known; `planned`: how many there will be."""

    title: str
    folder: Path
    finished: bool
    begun: bool
    metrics: Mapping[str, float]
    curves: Curves
    checkpoint: Path | None
    seconds: float | None = None
    reached: int | None = None
    planned: int | None = None

    @property
    def state(self) -> str:
        """In words."""
        if self.finished:
            return 'finished'
        if self.reached is not None:
            return f'at iteration {self.reached}' + (f' of {self.planned}' if self.planned else '')
        return 'begun' if self.begun else 'not begun'


@dataclass(frozen=True)
class WorkDir:
    """`stages` in their order, the last is the one that counts; `test`: metrics, empty where there was no test.

    `problems`: what could not be read, in words.
    """

    path: Path
    chain: bool
    stages: list[Stage]
    test: Mapping[str, float]
    store: Path | None
    expects_test: bool
    problems: list[str] = field(default_factory=list)

    @property
    def main(self) -> Stage:
        """The self-improving stage, or the one training of a plain config."""
        return self.stages[-1]

    @property
    def finished(self) -> bool:
        """True if nothing is left to be done."""
        return self.main.finished and (bool(self.test) or not self.expects_test)


def read_work_dir(cfg: Config, path: str | Path) -> WorkDir:
    """Reads what is there of the run of a config; what is damaged becomes one of its `problems`.

    Raises FileNotFoundError if the folder itself is not there.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f'{path}: no such folder, expected the work dir of a training; correct --work-dir')
    problems: list[str] = []
    if 'stages' not in cfg:
        return WorkDir(path, False, [_plain(cfg, path, problems)], {}, store_of(cfg, path), False, problems)
    results = _results(path / 'results.json', problems)
    stages = []
    warmup = cfg.stages.get('warmup')
    if warmup:
        folder = Path(warmup.get('work_dir') or path / 'warmup')
        planned = (warmup.get('train_cfg') or {}).get('max_iters') or (cfg.get('train_cfg') or {}).get('max_iters')
        stages.append(_stage('warm-up', folder, results.get('warmup'), planned, cfg, problems))
    planned = (cfg.get('train_cfg') or {}).get('max_iters')
    folder = path / 'self_improving'
    stages.append(_stage('self-improving', folder, results.get('self_improving'), planned, cfg, problems))
    facts = _facts(path / 'test', problems)
    test = facts['metrics'] if facts else results.get('test') or {}
    return WorkDir(path, True, stages, test, store_of(cfg, path), bool(cfg.get('test_dataloader')), problems)


def _stage(
    title: str, folder: Path, result: dict | None, planned: int | None, cfg: Config, problems: list[str]
) -> Stage:
    """A stage of a chain: what its folder says of it, else what `results.json` does."""
    facts = _facts(folder, problems) or result
    curves = _curves(folder)
    return Stage(
        title=title,
        folder=folder,
        finished=facts is not None,
        begun=(folder / BEGUN).is_file(),
        metrics=_scores(curves) if facts is None else facts.get('metrics') or {},
        curves=curves,
        checkpoint=_checkpoint(folder, facts, cfg, problems),
        seconds=None if facts is None else facts.get('seconds'),
        reached=(facts or {}).get('iters') or _reached(curves),
        planned=planned,
    )


def _plain(cfg: Config, path: Path, problems: list[str]) -> Stage:
    """The training of a config without stages, which writes its last validation nowhere but in the log."""
    curves = _curves(path)
    loop = cfg.get('train_cfg') or {}
    planned, reached = loop.get('max_iters'), _reached(curves)
    done = reached is not None and planned is not None and reached >= planned
    if 'max_epochs' in loop:
        epochs = curves.get('epoch', ([], []))[1]
        done = bool(epochs) and max(epochs) >= loop['max_epochs']
    checkpoint = _checkpoint(path, None, cfg, problems)
    return Stage('training', path, done, bool(curves), _scores(curves), curves, checkpoint, None, reached, planned)


def _results(file: Path, problems: list[str]) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f'found a {type(found).__name__}, expected an object')
    except ValueError as error:
        problems.append(f'{file.name} is damaged ({error}); the figures are those of the stages’ own folders.')
        return {}
    return found


def _facts(folder: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        return finished_facts(folder, metrics=dict)
    except ValueError as error:
        problems.append(f'{error}')
        return None


def _curves(folder: Path) -> Curves:
    try:
        return read_scalars(folder)
    except FileNotFoundError:
        return {}


def _scores(curves: Curves) -> dict[str, float]:
    """The last value of each score of the validation."""
    return {name: values[-1] for name, (_, values) in curves.items() if PANELS[SCORES](name)}


def _reached(curves: Curves) -> int | None:
    iterations = curves.get('iter', ([], []))[1]
    return int(max(iterations)) if iterations else None


def _checkpoint(folder: Path, facts: dict | None, cfg: Config, problems: list[str]) -> Path | None:
    """The last one of a training: of a finished stage the one it names, else where the run would go on."""
    if facts is not None and facts.get('checkpoint'):
        named = Path(facts['checkpoint'])
        # Of results.json the path is whole, and a folder may have been moved since.
        return next((each for each in (folder / named, folder / named.name) if each.is_file()), None)
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    try:
        return last_checkpoint(folder, hook.get('out_dir'))
    except (ValueError, FileNotFoundError) as error:
        problems.append(f'{error}')
        return None
