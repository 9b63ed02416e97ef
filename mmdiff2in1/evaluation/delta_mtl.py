"""Δ_MTL: by how much a model of several tasks is better than one model for each (Maninis et al., ASTMT, 2019)."""

from collections.abc import Mapping
from typing import Any

from mmengine.evaluator import Evaluator
from mmseg.registry import EVALUATOR

from .figure_names import check_figure

LOWER_IS_BETTER = ('rmse', 'rmse_log', 'abs_rel', 'sq_rel', 'log10', 'silog', 'mean', 'median', 'rmse_per_image')
"""Figures of this package's metrics that are errors, without their prefix."""


def lower_is_better(name: str) -> bool:
    """True if a figure of this name, with or without prefixes, is an error."""
    return name.rsplit('/', 1)[-1] in LOWER_IS_BETTER


def delta_mtl(scores: Mapping[str, float], single_task: Mapping[str, float]) -> float:
    """Mean over the figures of the relative gain (-1)^l (M - S) / S in percent, l = 1 for errors.

    Args:
        scores: M, of the model of several tasks, by name; others than those of `single_task` are not read.
        single_task: S, of the single-task models, by the same names: one figure for each task.

    Raises:
        ValueError: No figure, one that the model has not, or a single-task score of 0.
    """
    if not single_task:
        raise ValueError('single_task is empty, expected one figure for each task, e.g. {"mIoU": 46.3}')
    missing = [name for name in single_task if name not in scores]
    if missing:
        raise ValueError(f'the model has no {", ".join(missing)}; found {", ".join(scores) or "no figures"}')
    zero = [name for name, score in single_task.items() if score == 0]
    if zero:
        raise ValueError(f'the single-task score of {", ".join(zero)} is 0: there is no gain relative to it')
    gains = []
    for name, single in single_task.items():
        gain = (scores[name] - single) / abs(single)
        gains.append(-gain if lower_is_better(name) else gain)
    return 100 * sum(gains) / len(gains)


@EVALUATOR.register_module()
class DeltaMTLEvaluator(Evaluator):
    """mmengine's evaluator, and `delta_mtl` beside the figures of its metrics, in percent.

        val_evaluator = dict(
            type='DeltaMTLEvaluator',
            metrics=[dict(type='IoUMetric', iou_metrics=['mIoU']), dict(type='PooledDepthMetric', max_depth=80)],
            single_task={'mIoU': 43.9, 'depth/rmse': 0.585},
        )

    Args:
        metrics: Configs of metrics.
        single_task: See `delta_mtl`; the names as the metrics give them.

    Raises:
        ValueError: A name that no metric gives.
    """

    def __init__(self, metrics: Any, single_task: Mapping[str, float]) -> None:
        super().__init__(metrics)
        self.single_task = dict(single_task)
        for name in self.single_task:
            check_figure(name, self, 'single_task of the DeltaMTLEvaluator')

    @property
    def figures(self) -> list[str]:
        """What this evaluator adds to the figures of its metrics."""
        return ['delta_mtl']

    def evaluate(self, size: int) -> dict[str, float]:
        """See mmengine's."""
        figures = super().evaluate(size)
        return figures | dict(delta_mtl=delta_mtl(figures, self.single_task))
