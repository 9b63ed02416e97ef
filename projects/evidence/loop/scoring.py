"""Scores of predictions over a whole part, every pixel pooled, by the metric of the task.

B, c, H, W: prediction and target of a batch.
"""

from collections.abc import Iterable

import numpy as np
import torch
from mmseg.evaluation.metrics import IoUMetric
from mmseg.registry import METRICS
from torch import Tensor

from mmdiff2in1.tasks import DenseTask

RECORDED = {
    'mean': ('mean', 1),
    'median': ('median', 1),
    'rmse': ('rmse', 1),
    'below_11.25': ('11.25', 1),
    'below_22.5': ('22.5', 1),
    'below_30': ('30', 1),
    'abs_rel': ('abs_rel', 1),
    'd1': ('delta1', 100),
    'mIoU': ('mIoU', 1),
}
"""Figure of a metric → its name in the records and the factor to their unit, in their order.

Beside them the IoU of each class is kept.
"""


class FineIoUMetric(IoUMetric):
    """mmseg's IoU in percent, not rounded to two decimals, and that of each class: nan where it is nowhere."""

    default_prefix = ''

    def compute_metrics(self, results: list) -> dict[str, float]:
        """From the areas of each image: ``mIoU``, the mean over the classes that are somewhere, and ``IoU/<class>``."""
        areas = [torch.stack(each).double().sum(0) for each in zip(*results, strict=True)]
        iou = 100 * self.total_area_to_metrics(*areas)['IoU']
        return {'mIoU': float(np.nanmean(iou)), **{f'IoU/{k}': value for k, value in enumerate(iou.tolist())}}


FINE = {'IoUMetric': FineIoUMetric}
"""What takes the place of a metric that rounds."""


def scores(task: DenseTask, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Scores of (output, target) batches; an output is a segmentor's, at any size, resized to its target here.

    Normals: ``mean``, ``median`` (to 0.0005), ``rmse`` of the angle in degrees, and the share (%) of pixels within
    11.25, 22.5 and 30 degrees. Segmentation: ``mIoU`` and ``IoU/<class>`` in %. Depth: ``rmse`` in metres, ``abs_rel``,
    and ``delta1`` in %.
    """
    settings = task.metric
    metric = METRICS.build(settings | {'type': FINE.get(settings['type'], settings['type'])})
    metric.dataset_meta = dict(classes=range(task.channels))
    for output, target in batches:
        resized = task.resize_output(output, tuple(target.shape[-2:]))
        metric.process({}, [_sample(task, *pair) for pair in zip(resized, target, strict=True)])
    found = metric.evaluate(len(metric.results))
    figures = {name.removeprefix(f'{metric.prefix}/'): value for name, value in found.items()}
    recorded = RECORDED | {name: (name, 1) for name in figures if name.startswith('IoU/')}
    return {own: factor * figures[name] for name, (own, factor) in recorded.items() if name in figures}


def _sample(task: DenseTask, output: Tensor, target: Tensor) -> dict[str, dict[str, Tensor]]:
    """What mmengine gives a metric of one image: output (C, H, W) and target (c, H, W) by their keys."""
    return {key: {'data': data} for key, data in {**task.predictions(output), task.field: target}.items()}
