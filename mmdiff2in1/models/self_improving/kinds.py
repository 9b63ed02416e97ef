"""Which samples of a mixed batch share a loss, and what it weighs: real and synthetic ones apart, or all in one pool.

B samples in a batch, r of them real and s synthetic; w: `synthetic_weight`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor

from mmdiff2in1.tasks import TaskSet

NORMALIZERS = ('batch', 'real', 'pooled')


@dataclass(frozen=True)
class Kind:
    """Samples that share a loss: their positions in the batch, their targets and the weight of their losses.

    `name`: first part of the names of the losses; empty for the pool. `divide_by`: see `losses_of_head`.
    `task_weights`: further factors of the losses of some tasks.
    """

    name: str
    index: Tensor
    samples: list
    weight: float
    divide_by: str = 'loss'
    task_weights: Mapping[str, float] = field(default_factory=dict)


def is_synthetic(sample: Any) -> bool:
    """True if the metainfo of a sample says that it is synthetic."""
    return bool(sample.metainfo.get('synthetic', False))


def check_weight(weight: float | Mapping[str, float], tasks: TaskSet) -> None:
    """Raises ValueError for a w that is no number, negative or not finite, or of a task that there is not."""
    by_task = weight if isinstance(weight, Mapping) else dict.fromkeys(tasks, weight)
    unknown = [name for name in by_task if name not in tasks]
    if unknown:
        raise ValueError(f'synthetic_weight names {", ".join(unknown)}; the tasks are {", ".join(tasks)}.')
    for each in by_task.values():
        if not isinstance(each, int | float) or not 0 <= each < float('inf'):
            raise ValueError(f'synthetic_weight={each!r}: expected a finite number, at least 0.')


def kinds_of(
    samples: list,
    normalize_by: str,
    weight: float | Mapping[str, float],
    divide_by: str,
    tasks: TaskSet,
    device: torch.device,
) -> list[Kind]:
    """The kinds of a batch with at least one synthetic sample.

    Args:
        samples: B samples with their targets.
        normalize_by: See `SelfImprovingSegmentor`.
        weight: w, of all tasks or by task, of others 1. In a pool, one other than 1 becomes a weight of every synthetic
            pixel.
        divide_by: Of synthetic samples, in a pool of all.
        tasks: What is predicted.
        device: Of the batch.

    Raises:
        ValueError: normalize_by='real', and no real sample.
    """

    def kind(name: str, positions: list[int], factor: float, divided: str, own: Mapping[str, float]) -> Kind:
        index = torch.tensor(positions, device=device)
        return Kind(name, index, [samples[i] for i in positions], factor, divided, own)

    shared, by_task = (1.0, weight) if isinstance(weight, Mapping) else (weight, {})
    synthetic = [i for i, sample in enumerate(samples) if is_synthetic(sample)]
    real = [i for i, sample in enumerate(samples) if not is_synthetic(sample)]
    if normalize_by == 'pooled':
        weights = {name: by_task.get(name, shared) for name in tasks}
        samples = [_weighted(each, weights, tasks) if is_synthetic(each) else each for each in samples]
        return [kind('', list(range(len(samples))), 1.0, divide_by, {})]
    if normalize_by == 'batch':
        real_weight, synthetic_weight = len(real) / len(samples), shared * len(synthetic) / len(samples)
    elif real:
        real_weight, synthetic_weight = 1.0, shared * len(synthetic) / len(real)
    else:
        raise ValueError(
            f"normalize_by='real' divides by the number of real samples, but all {len(synthetic)} samples of this "
            "batch are synthetic. Use an exact mix (`MixedBatchSampler`) or normalize_by='batch'."
        )
    kinds = [kind('real', real, real_weight, 'loss', {})] if real else []
    return [*kinds, kind('synthetic', synthetic, synthetic_weight, divide_by, by_task)]


def _weighted(sample: Any, weights: Mapping[str, float], tasks: TaskSet) -> Any:
    """A copy whose pixels weigh so many times as much, by task; where that is once for all, the sample itself."""
    changed = {name: weight for name, weight in weights.items() if weight != 1}
    if not changed:
        return sample
    copy = sample.new()
    for name, weight in changed.items():
        task = tasks[name]
        given, target = sample.get(task.weight_field), sample.get(task.field).data
        ones = torch.ones_like(target[:1], dtype=torch.float32) if given is None else given.data
        copy.set_data({task.weight_field: PixelData(data=weight * ones)})
    return copy
