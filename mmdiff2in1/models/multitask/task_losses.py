"""The losses by task that InvPT and TaskPrompter are trained with (their repository; docs/tasks.md has the table).

B samples, C channels of an output, c of a target; H, W: size of the ground truth.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmdiff2in1.tasks import DenseTask, Depth, Edges, Saliency, SemanticSegmentation, SurfaceNormal, TaskSet

from ..decode_heads.dense_task_head import build_losses, summed_losses
from ..losses import BalancedCrossEntropyLoss, EdgeLoss, PixelCrossEntropyLoss, PixelL1Loss

TASK_WEIGHTS = dict(semantic_segmentation=1.0, human_parts=2.0, saliency=5.0, normal=10.0, depth=1.0, edge=50.0)
"""Factors of the losses in the sum, the same on NYUD-MT and PASCAL-Context, for deep supervision too."""


def weights_of(tasks: TaskSet, given: Mapping[str, float] | None) -> dict[str, float]:
    """Task → factor of its loss: what is given, else that of `TASK_WEIGHTS`, else 1.

    Raises:
        ValueError: Factors of tasks that are not predicted.
    """
    given = given or {}
    unknown = sorted(set(given) - set(tasks))
    if unknown:
        raise ValueError(f'task_weights of {", ".join(unknown)}; the tasks are {", ".join(tasks)}')
    return {name: float(given.get(name, TASK_WEIGHTS.get(task.name, 1.0))) for name, task in tasks.items()}


def task_output(task: DenseTask, raw: Tensor) -> Tensor:
    """Output of a head of these models, (B, C, H, W): depth in metres, without an activation; else as of any."""
    return raw if isinstance(task, Depth) else task.head_output(raw)


def task_loss(task: DenseTask, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """The loss of one task, a scalar and not yet times its factor; a mean over the pixels that count, 0 without any.

    Classes: cross-entropy. Saliency: the same, balanced over the batch. Edges: binary cross-entropy, an edge weighing
    19 times as much. Depth: L1. Normals: L1 summed over the channels, of the prediction at unit length. A task of
    another kind, and normals with κ: its own default loss, of the activated output.

    Args:
        task: Whose.
        output: (B, C, H, W) as the last layer leaves it: logits, metres, vectors of any length.
        target: (B, c, H, W) in the task's encoding; of classes also floating-point probabilities (B, C, H, W).
        weight: (B, 1, H, W) of the pixels, at least 0; None: 1.

    Raises:
        ValueError: Shapes that do not belong together.
    """
    if isinstance(task, SemanticSegmentation):
        kind = BalancedCrossEntropyLoss if isinstance(task, Saliency) else PixelCrossEntropyLoss
        return kind(task.ignore_index)(task.class_logits(output), target, weight=weight)
    if isinstance(task, Edges):
        return EdgeLoss()(output, target, weight=weight)
    if isinstance(task, Depth):
        return PixelL1Loss()(output, target, weight=weight)
    if isinstance(task, SurfaceNormal) and not task.kappa:
        return PixelL1Loss(unit=True)(output, target, weight=weight)
    losses = summed_losses(build_losses(task.loss), task.head_output(output), target, weight)
    return torch.stack(list(losses.values())).sum()
