"""Mean intersection over union of any task of classes, by the task's own fields. K classes; H, W: image size."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS, TASK_UTILS

from mmdiff2in1.tasks import SemanticSegmentation


@METRICS.register_module()
class ClassIoUMetric(BaseMetric):
    """mmseg's `IoUMetric` for another field than `gt_sem_seg`: human parts, say.

    Figures, in percent: `mIoU`, the mean of the classes that occur in ground truth or predictions; `IoU.<class>`. All
    pixels with a class are pooled. An image leaves behind integers, so any number of processes gives the figures of
    one.

    Args:
        task: Of classes, a task or its TASK_UTILS config.
        collect_device: See mmengine's `BaseMetric`.
        prefix: Of the names of the figures; None: the task's name.
        collect_dir: See mmengine's `BaseMetric`.

    Raises:
        TypeError: A task without classes.
        ValueError: When used: maps of different sizes, predicted classes that there are not, or no valid pixel at all.
    """

    def __init__(
        self,
        task: Mapping[str, Any] | SemanticSegmentation,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        self.task = TASK_UTILS.build(task) if isinstance(task, Mapping) else task
        if not isinstance(self.task, SemanticSegmentation):
            raise TypeError(f'found the task {self.task!r}, expected one of classes, e.g. dict(type="HumanParts")')
        super().__init__(collect_device, prefix or self.task.name, collect_dir)

    @property
    def figures(self) -> list[str]:
        """Names of the figures, without prefix; those of classes only where they occur."""
        return ['mIoU', *(f'IoU.{name.replace(" ", "_")}' for name in self._names)]

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Counts the pixels of each class; a sample without ground truth counts for nothing."""
        task, K = self.task, self.task.num_classes
        for sample in data_samples:
            if task.field not in sample:
                self.results.append(torch.zeros(3, K, dtype=torch.int64))
                continue
            target = sample[task.field]['data']
            predicted = sample[task.prediction]['data'].to(target.device)
            if predicted.shape != target.shape:
                raise ValueError(
                    f'{task.prediction} is {tuple(predicted.shape)}, {task.field} {tuple(target.shape)}, expected one '
                    'size: predictions have the size of the original image, so in a test pipeline LoadDenseAnnotation '
                    'must stand after the resizing'
                )
            valid = task.valid(target)
            g, p = target[valid].long(), predicted[valid].long()
            kinds = (g[g == p], g, p)
            self.results.append(torch.stack([torch.bincount(kind, minlength=K) for kind in kinds]).cpu())

    @property
    def _names(self) -> Sequence[str]:
        return self.task.classes or [str(index) for index in range(self.task.num_classes)]

    def compute_metrics(self, results: list[torch.Tensor]) -> dict[str, float]:
        """The figures, from the pixels that are right, of the ground truth and of the predictions, each (K,)."""
        right, true, predicted = torch.stack(results).sum(0)
        if not true.sum():
            raise ValueError(
                f'none of the {len(results)} samples has a valid pixel in {self.task.field}; check that '
                'LoadDenseAnnotation stands in the test pipeline'
            )
        union = true + predicted - right
        percent = 100 * right.double() / union.clamp(min=1)
        occurs = union > 0
        names = self._names
        figures = dict(mIoU=float(percent[occurs].mean()))
        for name, value, there in zip(names, percent.tolist(), occurs.tolist(), strict=True):
            if there:
                figures[f'IoU.{name.replace(" ", "_")}'] = value
        absent = [name for name, there in zip(names, occurs.tolist(), strict=True) if not there]
        if absent:
            print_log(
                f'{self.prefix}: neither true nor predicted anywhere, so not counted: {", ".join(absent)}', 'current'
            )
        return figures
