"""Losses of one kind of samples under weights per pixel, and what they are divided by: one meaning for all tasks.

S samples of the kind; K classes; H, W: size of the targets. A pixel counts if it is valid and its weight above 0.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.models.utils import resize
from torch import Tensor

from mmdiff2in1.tasks import DenseTask, TaskSet, stacked_targets

from .head_kinds import minds_ignored
from .ignored_pixels import left_out
from .nothing_known import known_samples, losses_of_known
from .taking import take

DIVISORS = ('loss', 'counted', 'all')
"""`loss`: what each loss divides by of its own: mmseg's by all pixels, this package's by those that count."""


def losses_of_head(head: Any, outputs: Any, samples: list, tasks: TaskSet, divide_by: str) -> dict[str, Any]:
    """`head.loss_by_feat(outputs, samples)` with weights, and with a divisor of choice.

    Args:
        head: One that keeps mmseg's `loss`: forward, then `loss_by_feat`.
        outputs: What its forward gave for these samples.
        samples: Their targets, and where a label rule gave some the weights.
        tasks: What is predicted.
        divide_by: `counted`: Σ w l / Σ w over the pixels that count. `all`: Σ w l / (S · H · W): with few labels the
            loss is small. `loss`: as each loss does it by itself.

    Raises:
        ValueError: Weights, soft labels or a divisor for a head or a loss that gives no loss per pixel.
    """
    if hasattr(head, 'heads') and hasattr(head, 'tasks'):
        found: dict[str, Any] = {}
        for name, own in head.heads.items():
            parts = losses_of_head(own, outputs[name], samples, TaskSet({name: tasks[name]}), divide_by)
            found |= {f'{name}.{key}': value for key, value in parts.items()}
        return found
    if hasattr(head, 'tasks'):
        return _losses_of_all(head, outputs, samples, divide_by)
    if hasattr(head, 'task'):
        task, losses = head.task, head.loss_by_feat(outputs, samples)  # these divide by the pixels that count
    else:
        if divide_by == 'loss' and not any(_needs_care(task, samples) for task in tasks.values()):

            def plain(own: list, positions: list[int] | None) -> dict[str, Any]:
                with left_out(head, own):
                    return head.loss_by_feat(take(outputs, positions, len(samples)), own)

            return losses_of_known(head, samples, tasks, plain)
        task = _class_task(head, tasks)

        def careful(own: list, _: list[int] | None) -> dict[str, Any]:
            return _class_losses(head, outputs, own, task, divide_by)

        nothing = minds_ignored(head) and not any(known_samples(samples, [task]))
        losses = losses_of_known(head, samples, tasks, careful) if nothing else careful(samples, None)
    if divide_by != 'all':
        return losses
    share = _counted_share(task, samples)
    return {name: value * share if 'loss' in name else value for name, value in losses.items()}


def _losses_of_all(head: Any, outputs: Any, samples: list, divide_by: str) -> dict[str, Tensor]:
    """Of one head for all tasks, whose losses `<task>.<name>` are weighted means over the pixels that count."""
    losses = head.loss_by_feat(outputs, samples)
    if divide_by != 'all':
        return losses
    shares = {name: _counted_share(task, samples) for name, task in head.tasks.items()}
    return {name: value * shares[name.split('.')[0]] if 'loss' in name else value for name, value in losses.items()}


def _class_losses(head: Any, logits: Tensor, samples: list, task: DenseTask, divide_by: str) -> dict[str, Tensor]:
    """Of a head of mmseg: means over the pixels that count, or with 'loss' as each loss takes its mean itself."""
    # Of the bound method: a head that wraps another one hands out that one's.
    if getattr(head.loss_by_feat, '__func__', None) is not BaseDecodeHead.loss_by_feat:
        raise ValueError(
            f'{type(head).__name__} computes its losses in a way of its own, so pixels cannot be weighted; choose a '
            "label rule without weights and divide_by='loss', or a head that keeps mmseg's loss_by_feat"
        )
    target = stacked_targets(task, samples)  # (S, 1 or K, H, W)
    logits = resize(logits, target.shape[2:], mode='bilinear', align_corners=head.align_corners)
    weight = _weights(task, samples, target)
    if head.sampler is not None:
        if target.shape[1] > 1:
            raise ValueError(
                f'{type(head.sampler).__name__} chooses pixels by their class, and a label rule gave probabilities; '
                'use a head without sampler, or a rule with hard labels'
            )
        weight = weight * head.sampler.sample(logits, target)
    total = weight.sum()
    losses: dict[str, Tensor] = {}
    for loss in _modules(head.loss_decode):
        by_itself = divide_by == 'loss' and target.shape[1] == 1
        if not (by_itself and isinstance(loss, CrossEntropyLoss)):  # others may take weights and not use them
            per_pixel = _per_pixel(loss, logits, target, head.ignore_index)
        if by_itself:
            value = loss(logits, target[:, 0], weight=weight, ignore_index=head.ignore_index)
        elif divide_by == 'loss':
            value = (per_pixel * weight).mean()
        else:
            value = (per_pixel * weight).sum() / total.where(total > 0, 1)
        losses[loss.loss_name] = losses[loss.loss_name] + value if loss.loss_name in losses else value
    return losses


def _per_pixel(loss: Any, logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """(S, H, W), 0 where the target is ignored."""
    if target.shape[1] > 1:
        if not isinstance(loss, CrossEntropyLoss) or loss.use_sigmoid or loss.class_weight is not None:
            raise ValueError(
                f'{type(loss).__name__} cannot learn from class probabilities; use CrossEntropyLoss without '
                'use_sigmoid and class_weight, or a label rule with hard labels'
            )
        return loss.loss_weight * F.cross_entropy(logits, target.to(logits.dtype), reduction='none')
    try:
        found = loss(logits, target[:, 0], ignore_index=ignore_index, reduction_override='none')
    except TypeError:
        found = None
    if found is None or found.ndim < 3 or len(found) != len(logits) or found.shape[-2:] != logits.shape[-2:]:
        raise ValueError(
            f'{type(loss).__name__} gives no loss per pixel, so pixels cannot be weighted; use CrossEntropyLoss, '
            "or a label rule without weights and divide_by='loss'"
        )
    found = found.mean(1) if found.ndim == 4 else found
    return found.where(target[:, 0] != ignore_index, 0)


def _weights(task: DenseTask, samples: list, target: Tensor) -> Tensor:
    """(S, H, W): 0 for pixels that do not count."""
    if target.shape[1] > 1:
        valid = (target != 0).any(1, keepdim=True)
    else:
        valid = task.valid(target)
    given = [sample.get(task.weight_field) for sample in samples]
    weight = [torch.ones_like(mask, dtype=torch.float32) if g is None else g.data for mask, g in zip(valid, given)]  # noqa: B905
    return (torch.stack(weight) * valid)[:, 0]


def _counted_share(task: DenseTask, samples: list) -> Tensor:
    """Σ w over the pixels that count / (S · H · W), 0-dim."""
    return _weights(task, samples, stacked_targets(task, samples)).mean()


def _needs_care(task: DenseTask, samples: list) -> bool:
    """True if a label rule gave weights or probabilities, which no head of mmseg knows."""
    return any(task.weight_field in sample for sample in samples) or is_soft(samples, task)


def is_soft(samples: list, task: DenseTask) -> bool:
    """True if any of the samples is to learn probabilities of classes."""
    return any(sample.get(task.field).data.shape[0] != task.target_channels for sample in samples)


def _class_task(head: Any, tasks: TaskSet) -> DenseTask:
    """The task of a head that is mmseg's own: the one whose targets mmseg reads."""
    for task in tasks.values():
        if task.field == 'gt_sem_seg':
            return task
    raise ValueError(
        f'{type(head).__name__} predicts {", ".join(tasks)} in a way of its own, so pixels cannot be weighted; use a '
        "DenseTaskHead, or a label rule without weights and divide_by='loss'"
    )


def _modules(losses: Any) -> Iterator[Any]:
    yield from losses if hasattr(losses, '__iter__') else [losses]
