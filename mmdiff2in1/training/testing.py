"""Tests θ_C, θ_E or a plain model on the test set of a config: metrics, predictions, pictures."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import get_rank
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmdiff2in1.core.building import building
from mmdiff2in1.core.randomness import derived_randomness
from mmdiff2in1.inference.prediction_writer import PredictionWriter, segmentor_of
from mmdiff2in1.models.checkpoints import load_weights

from .runs import build_runner

TTA_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def test_models(
    cfg: Config,
    checkpoint: str | Path,
    work_dir: Path,
    models: Sequence[str | None] = ('creator',),
    tta: bool = False,
    maps: Path | None = None,
    pictures: Path | None = None,
) -> dict[str, float]:
    """Metrics of models in a checkpoint, θ_E's below `exploiter/`.

    Args:
        cfg: With test_dataloader and test_evaluator; it is changed.
        checkpoint: See `load_weights`.
        work_dir: For the log.
        models: 'creator', 'exploiter'; None for the one model of a plain config.
        tta: Several scales and mirrored, averaged: tta_model and tta_pipeline of the config, or the usual ones.
        maps: Folder of the predictions, see `PredictionWriter`.
        pictures: Folder of pictures of them.

    Raises:
        RuntimeError: The checkpoint does not fit.
    """
    runner = _prepared(cfg, checkpoint, work_dir, tta)
    with contextlib.ExitStack() as stack:
        writer = None
        if maps or pictures:
            folder = maps or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            writer = PredictionWriter(runner, folder, pictures, models)
            runner.register_hook(writer)
        metrics: dict[str, float] = {}
        for which in models:
            metrics |= _test(runner, which, writer)
    return metrics


def _prepared(cfg: Config, checkpoint: str | Path, work_dir: Path, tta: bool) -> Runner:
    """A runner over the test set whose model holds the checkpoint."""
    if tta:
        _use_tta(cfg)
    cfg.work_dir, cfg.load_from, cfg.resume = str(work_dir), None, False
    if (cfg.get('test_cfg') or {}).get('type') == 'SelfImprovingTestLoop':  # one model at a time here
        cfg.test_cfg = dict(type='TestLoop', fp16=cfg.test_cfg.get('fp16', False))
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    runner = build_runner(cfg)
    load_weights(segmentor_of(runner), checkpoint)
    with building(cfg):
        runner.test_loop  # noqa: B018  builds the data set and the metrics
    return runner


def _use_tta(cfg: Config) -> None:
    """Puts the config's tta_model and tta_pipeline in place, or the usual ones."""
    pipeline = cfg.test_dataloader.dataset.pipeline
    loads = [step for step in pipeline if str(step['type']).startswith('Load')]
    if not cfg.get('tta_pipeline'):
        flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
        scales = [dict(type='Resize', scale_factor=scale, keep_ratio=True) for scale in TTA_SCALES]
        views = [scales, flips, *([step] for step in loads[1:]), [pipeline[-1]]]
        cfg.tta_pipeline = [loads[0], dict(type='TestTimeAug', transforms=views)]
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    has_task = 'task' in cfg.model.get('segmentor', cfg.model)
    usual = dict(type='DenseTTAModel' if has_task else 'SegTTAModel')
    cfg.model = ConfigDict(cfg.get('tta_model') or usual, module=cfg.model)


def _test(runner: Runner, which: str | None, writer: PredictionWriter | None) -> dict[str, float]:
    """Metrics of one model, θ_E's below `exploiter/`."""
    model = segmentor_of(runner)
    if writer:
        writer.which = which
    # Drawn as in a SelfImprovingTestLoop, so that both give the same numbers.
    runner.logger.info(f'Testing {dict(creator="θ_C", exploiter="θ_E").get(which, type(model).__name__)}')
    with derived_randomness(runner.seed, 'evaluation', get_rank()):
        with model.evaluated(which) if which else contextlib.nullcontext():
            found = runner.test()
    return {f'exploiter/{k}' if which == 'exploiter' else k: float(v) for k, v in found.items()}
