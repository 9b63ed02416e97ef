"""A sample of which nothing is known teaches exactly nothing, whatever a loss makes of ignored pixels.

S samples that share a loss.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.structures import PixelData

from mmdiff2in1.tasks import DenseTask, TaskSet

from .head_kinds import minds_ignored

Losses = dict[str, Any]


def losses_of_known(
    module: Any, samples: list, tasks: TaskSet, losses_of: Callable[[list, list[int] | None], Losses]
) -> Losses:
    """Losses of the samples with a known pixel; of none at all 0 for each loss, with gradients of 0 in the whole graph.

    That graph is the one of a made-up target: it holds every parameter and every collective, as processes that train
    together need it, and no mean of nothing.

    Args:
        module: A head, or a segmentor with a `loss` of its own; one that does not mind ignored pixels gets all samples.
        samples: S samples with their targets.
        tasks: What is predicted.
        losses_of: Samples, and their positions in `samples` unless they are all → their losses.
    """
    if not minds_ignored(module):
        return losses_of(samples, None)
    own = _tasks_of(tasks)
    positions = [i for i, known in enumerate(known_samples(samples, own)) if known]
    if len(positions) == len(samples):
        return losses_of(samples, None)
    if positions:
        return losses_of([samples[i] for i in positions], positions)
    return of_nothing([_made_up(sample, own) for sample in samples], losses_of)


def of_nothing(samples: list, losses_of: Callable[[list, None], Losses]) -> Losses:
    """The losses of samples times 0; entries that are no loss (accuracies) are left out."""
    return {name: _times_zero(value) for name, value in losses_of(samples, None).items() if 'loss' in name}


def known_samples(samples: Sequence, tasks: TaskSet | Sequence[DenseTask]) -> list[bool]:
    """For each sample, True if anything is known of it; waits for the device once."""
    every = list(tasks.values()) if isinstance(tasks, TaskSet) else list(tasks)
    return torch.stack([torch.stack([_known(task, sample) for task in every]).any() for sample in samples]).tolist()


def _known(task: DenseTask, sample: Any) -> torch.Tensor:
    target = sample.get(task.field).data
    if len(target) != task.target_channels:  # probabilities of classes
        return (target != 0).any()
    return task.valid(target[None]).any()


def _tasks_of(tasks: TaskSet) -> list[DenseTask]:
    """The tasks whose targets mmseg's heads and segmentors read."""
    classes = [task for task in tasks.values() if task.field == 'gt_sem_seg']
    return classes or list(tasks.values())


def _made_up(sample: Any, tasks: Sequence[DenseTask]) -> Any:
    """A copy with targets that are valid and one value everywhere: a class, or 1."""
    copy = sample.new()
    for task in tasks:
        size = sample.get(task.field).data.shape[-2:]
        target = task.unknown_target(size, sample.get(task.field).data.device)
        value = 0 if task.num_classes and task.invalid != 0 else 1
        copy.set_data({task.field: PixelData(data=torch.full_like(target, value))})
    return copy


def _times_zero(value: Any) -> Any:
    return [part * 0 for part in value] if isinstance(value, (list, tuple)) else value * 0
