"""Formulas of the package in the place of those of the old loop, one after the other; see port.py.

B samples; C channels of a head; H, W pixels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from mmdiff2in1.tasks import SemanticSegmentation

VARIANTS = ('as it was', 'activated first', "package's losses")


@contextmanager
def formulas(old: Any, task: Any, variant: str) -> Iterator[None]:
    """Puts formulas of the package in the place of the old ones."""
    kept = old.resize, old.LOSSES, old.Learner.pseudo_labels
    if variant != VARIANTS[0]:
        old.resize = lambda output, target: _activated(task, output, target.shape[-2:])
        old.LOSSES = old.LOSSES | {'depth': _silog_of_metres}
        old.Learner.pseudo_labels = _pseudo_labels
    if variant == VARIANTS[2]:
        old.LOSSES = {task.name: _package_loss(task)}
    try:
        yield
    finally:
        old.resize, old.LOSSES, old.Learner.pseudo_labels = kept


def _activated(task: Any, output: Tensor, size: Any) -> Tensor:
    """As mmseg's heads leave it: logits for classes, else what the task activates."""
    output = output.float()
    return task.resize_output(output if isinstance(task, SemanticSegmentation) else task.activate(output), tuple(size))


def _pseudo_labels(self: Any, features: list, size: tuple, min_confidence: float | None, mirrored: Any = None) -> Any:
    """The old method with `_activated` before the mean of both views."""
    teacher = self.teacher or self.creator
    output = _activated(self.task, self.outputs(teacher, features), size)
    if mirrored is not None:
        back = self.task.flip_output(_activated(self.task, self.outputs(teacher, mirrored), size))
        output = self.task.resize_output((output + back) / 2, size)
    target, confidence = self.task.pseudo_label(output)
    if min_confidence is None or confidence is None:
        return target, 1.0
    return self.task.invalidate(target, confidence < min_confidence), 1.0


def _silog_of_metres(task: Any, output: Tensor, target: Tensor) -> Tensor:
    valid = task.valid(target)
    error = output[valid].log() - target[valid].log()
    return (error.square().mean() - 0.5 * error.mean().square() + 1e-6).sqrt()


def _package_loss(task: Any) -> Callable[[Any, Tensor, Tensor], Tensor]:
    from mmseg.registry import MODELS

    loss = MODELS.build(task.loss)
    if isinstance(task, SemanticSegmentation):
        return lambda _, output, target: loss(output, target[:, 0].long(), ignore_index=task.ignore_index)
    return lambda _, output, target: loss(output, target)
