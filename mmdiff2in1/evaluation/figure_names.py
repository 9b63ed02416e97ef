"""The names of the figures that an evaluator is going to give, before it has seen an image."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric, Evaluator
from mmseg.evaluation import DepthMetric, IoUMetric
from mmseg.registry import EVALUATOR

from mmdiff2in1.core.names import did_you_mean

OF_IOU = {
    'mIoU': ('mIoU', 'mAcc'),
    'mDice': ('mDice', 'mAcc'),
    'mFscore': ('mFscore', 'mPrecision', 'mRecall'),
}
"""Setting of mmseg's `IoUMetric` → figures, beside ``aAcc``."""


def build_evaluator(cfg: Any) -> Evaluator:
    """What a config's ``val_evaluator`` or ``test_evaluator`` says: metrics, one or several, or an evaluator."""
    if isinstance(cfg, Mapping) and cfg.get('metrics') is not None:
        return EVALUATOR.build(dict(type='Evaluator') | dict(cfg))
    return Evaluator(cfg if isinstance(cfg, Sequence) else [cfg])


def figure_names(evaluator: Evaluator) -> list[str] | None:
    """Names with their prefixes, as `Evaluator.evaluate` gives them; None where a metric is a user's own."""
    names: dict[str, None] = {}
    for metric in evaluator.metrics:
        own = _own(metric)
        if own is None:
            return None
        names |= {f'{metric.prefix}/{name}' if metric.prefix else name: None for name in own}
    return [*names, *getattr(evaluator, 'figures', ())]


def check_figure(name: str, evaluator: Evaluator, asked_by: str) -> None:
    """Refuses the name of a figure that no metric gives; of a user's own metrics that is not known before a test.

    Args:
        name: As the user wrote it.
        evaluator: That is going to give it.
        asked_by: Option or key of the config, for the message.

    Raises:
        ValueError: With the names that there are, the nearest first.
    """
    known = figure_names(evaluator)
    if known is not None and name not in known:
        raise ValueError(
            f'{asked_by}: no metric of the config gives {name!r}{did_you_mean(name, known)}; '
            f'there are {", ".join(known) or "none"}'
        )


def _own(metric: BaseMetric) -> Iterable[str] | None:
    """Without prefix."""
    if isinstance(metric, IoUMetric):
        return ('aAcc', *(name for kind in metric.metrics for name in OF_IOU.get(kind, ())))
    if isinstance(metric, DepthMetric):
        return metric.metrics
    return getattr(metric, 'figures', None)
