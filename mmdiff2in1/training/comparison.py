"""Did it help? A self-improving config against the control of equal batch and steps, over several seeds."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import init_default_scope

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.names import type_name
from mmdiff2in1.engine.distributed import launcher_of_environment
from mmdiff2in1.evaluation import check_figure, figure_names

from .chain import check_before, draw_curves, train
from .control import equal_control
from .paired import Paired, Spread, compare
from .rehearsal import figures_of_a_test
from .scoring import better_by, evaluator_of
from .stages import self_improving_config

PLAIN, CONTROL, OURS = 'real only (θ_E)', 'real + EMA (θ_C)', 'Diff-2-in-1 (θ_C)'
RESULTS = 'comparison.json'
LEVEL = 0.05
FIGURES = ('mIoU', 'depth/rmse', 'rmse', 'normal/mean', 'mean')
"""The one number that is compared, if nothing else is asked for: the first of these that the test gives."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Settings of a comparison.

    Attributes:
        cfg: A self-improving config with ``test_dataloader``.
        seeds: Of weights, augmentation and creation.
        metric: Name of the number that is compared; None: see `FIGURES`.
    """

    cfg: Config
    seeds: tuple[int, ...] = (0, 1, 2)
    metric: str | None = None

    def arms(self, work_dir: Path) -> Iterator[tuple[str, int, Config, Path]]:
        """Name, seed, config and folder of each training; those of a seed share the warm-up."""
        if type_name(self.cfg.model) != 'SelfImprovingSegmentor':
            raise ValueError(
                f'the config trains a plain {self.cfg.model.type}: nothing to compare; add --self-improving paste, or '
                'another preset'
            )
        if not self.cfg.get('test_dataloader'):
            raise ValueError('the config has no test_dataloader, on which the arms are scored')
        self._check_metric()
        for seed in self.seeds:
            ours = self._seeded(seed, work_dir / f'seed{seed}' / 'warmup')
            for name, cfg in ((CONTROL, equal_control(ours)), (OURS, ours)):
                yield name, seed, cfg, work_dir / f'seed{seed}' / ('control' if name == CONTROL else 'diff2in1')

    def check(self, cfg: Config, work_dir: Path) -> None:
        """Finds what would end an arm, before it is trained; of metrics of a user's own a test of one image tells the
        names.

        Raises:
            FileNotFoundError, ValueError: See `train`; a number that the test is not going to give.
        """
        check_before(copy.deepcopy(cfg), work_dir, resume=True)
        if figure_names(evaluator_of(cfg, 'test')) is None:
            stage = self_improving_config(cfg, work_dir / 'self_improving', None, None)
            names = figures_of_a_test(stage, self.metric or ' or '.join(FIGURES))
            if names is not None:
                chosen_figure(dict.fromkeys(names, 0.0), self.metric)

    def _check_metric(self) -> None:
        """Refuses a number that the test is not going to give, before anything is trained."""
        if not self.cfg.get('test_evaluator'):
            raise ValueError('the config has no test_evaluator, which gives the scores')
        evaluator = evaluator_of(self.cfg, 'test')
        if self.metric is not None:
            check_figure(self.metric, evaluator, '--metric')
        else:
            names = figure_names(evaluator)
            if names is not None:
                chosen_figure(dict.fromkeys(names, 0.0), None)

    def _seeded(self, seed: int, warmup: Path) -> Config:
        cfg = copy.deepcopy(self.cfg)
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
        stages = cfg.get('stages') or {}
        if stages.get('warmup') is not None:
            stages['warmup'].work_dir = str(warmup)
        if stages.get('synthesis'):
            stages['synthesis'].seed = seed
        if type_name(cfg.train_dataloader.dataset) == 'SyntheticSampleDataset':
            cfg.train_dataloader.dataset.seed = seed
        if cfg.test_cfg.get('type') == 'SelfImprovingTestLoop':
            cfg.test_cfg.exploiter = True
        return cfg


def run_comparison(asked: Comparison, work_dir: str | Path) -> dict[str, Any]:
    """Trains every arm with every seed; what is finished is skipped, what was killed goes on.

    Under torchrun every process calls this.

    Returns:
        What ``comparison.json`` in the work dir holds: ``metric``, ``scores`` by arm and seed, and ``verdict``.

    Raises:
        FileNotFoundError, ValueError: See `train`; and a plain config, one without a test set, an unknown metric.
    """
    work_dir = Path(work_dir)
    init_default_scope(asked.cfg.get('default_scope') or 'mmseg')
    scores: dict[str, dict[int, float]] = {PLAIN: {}, CONTROL: {}, OURS: {}}
    name, control = asked.metric, None
    launcher_of_environment()
    for _, seed, cfg, folder in asked.arms(work_dir):
        if seed == asked.seeds[0]:  # what is wrong with the second arm is not to be found after the first
            asked.check(cfg, folder)
    for arm, seed, cfg, folder in asked.arms(work_dir):
        if is_main_process():
            print(f'--- {arm}, seed {seed} ---', flush=True)
        found = train(cfg, folder, resume=True)['test']
        if arm == OURS and is_main_process():
            draw_curves(folder, control)
        control = folder
        name = chosen_figure(found, name)
        scores[arm][seed] = found[name]
        if arm == CONTROL and f'exploiter/{name}' in found:
            scores[PLAIN][seed] = found[f'exploiter/{name}']
    result = dict(metric=name, scores=scores, verdict=verdict(str(name), scores))
    if is_main_process():
        write_atomically(work_dir / RESULTS, (json.dumps(result, indent=2, ensure_ascii=False) + '\n').encode())
    return result


def chosen_figure(metrics: Mapping[str, float], asked: str | None) -> str:
    """The number that is compared.

    Raises:
        ValueError: The test does not give it.
    """
    found = [name for name in ((asked,) if asked else FIGURES) if name in metrics]
    if not found:
        raise ValueError(
            f'the test gives no {asked or " or ".join(FIGURES)}; found {", ".join(metrics) or "nothing"}: name one of '
            'them with --metric'
        )
    return found[0]


def table(result: Mapping[str, Any]) -> list[str]:
    """Lines: each arm with its spread, and its difference from the control, paired by seed."""
    scores, control = result['scores'], result['scores'][CONTROL]
    wide = max(map(len, scores))
    spread = f'mean ± std of {len(control)} seeds' if len(control) > 1 else 'one seed'
    lines = [f'{result["metric"] + " on test":{wide}s}  {spread:24s} to {CONTROL}']
    for arm, by_seed in scores.items():
        if by_seed:
            pair = '–' if arm == CONTROL else _shown(compare(by_seed, control))
            lines.append(f'{arm:{wide}s}  {Spread.of(by_seed.values()).shown():24s} {pair}')
    return lines


def verdict(metric: str, scores: Mapping[str, Mapping[int, float]]) -> str:
    """Sentence on what the seeds can show."""
    pair = compare(scores[OURS], scores[CONTROL])
    mean = pair.spread.mean
    if mean is None:
        return 'no seed has both arms'
    better = better_by(metric, mean, 0.0) > 0
    size, count = f'{abs(mean):.3g} of {metric}', len(pair.by_seed)
    if count == 1:
        return f'one seed: {size} {"better" if better else "worse"}, which proves nothing; --seeds 3 says more'
    if pair.p is None or pair.p >= LEVEL:
        return (
            f'no difference that {count} seeds can show: {pair.spread.shown("+")} of {metric}'
            + ('' if pair.p is None else f' (p {pair.p:.2f})')
            + '; more seeds would narrow it'
        )
    return f'{"IT HELPS" if better else "IT HARMS"}: {size} {"better" if better else "worse"}, p {pair.p:.3f}'


def _shown(pair: Paired) -> str:
    return pair.spread.shown('+') + ('' if pair.p is None else f' (p {pair.p:.3f})')
