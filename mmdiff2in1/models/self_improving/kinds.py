"""Which samples of a mixed batch share a loss, and what it weighs: real and synthetic ones apart, or all in one pool.

B samples in a batch, r of them real and s synthetic; w: `synthetic_weight`.
"""

from dataclasses import dataclass
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
    """

    name: str
    index: Tensor
    samples: list
    weight: float
    divide_by: str = 'loss'


def is_synthetic(sample: Any) -> bool:
    """What the metainfo of a sample says."""
    return bool(sample.metainfo.get('synthetic', False))


def kinds_of(
    samples: list, normalize_by: str, weight: float, divide_by: str, tasks: TaskSet, device: torch.device
) -> list[Kind]:
    """The kinds of a batch with at least one synthetic sample.

    Args:
        samples: B samples with their targets.
        normalize_by: See `SelfImprovingSegmentor`.
        weight: w. In a pool, one other than 1 becomes a weight of every synthetic pixel.
        divide_by: Of synthetic samples, in a pool of all.
        tasks: What is predicted.
        device: Of the batch.

    Raises:
        ValueError: normalize_by='real', and no real sample.
    """

    def kind(name: str, positions: list[int], factor: float, divided: str) -> Kind:
        index = torch.tensor(positions, device=device)
        return Kind(name, index, [samples[i] for i in positions], factor, divided)

    synthetic = [i for i, sample in enumerate(samples) if is_synthetic(sample)]
    real = [i for i, sample in enumerate(samples) if not is_synthetic(sample)]
    if normalize_by == 'pooled':
        if weight != 1:
            samples = [_weighted(each, weight, tasks) if is_synthetic(each) else each for each in samples]
        return [kind('', list(range(len(samples))), 1.0, divide_by)]
    if normalize_by == 'batch':
        real_weight, synthetic_weight = len(real) / len(samples), weight * len(synthetic) / len(samples)
    elif real:
        real_weight, synthetic_weight = 1.0, weight * len(synthetic) / len(real)
    else:
        raise ValueError(
            f"normalize_by='real' divides by the number of real samples, but all {len(synthetic)} samples of this "
            "batch are synthetic. Use an exact mix (`MixedBatchSampler`) or normalize_by='batch'."
        )
    kinds = [kind('real', real, real_weight, 'loss')] if real else []
    return [*kinds, kind('synthetic', synthetic, synthetic_weight, divide_by)]


def _weighted(sample: Any, weight: float, tasks: TaskSet) -> Any:
    """A copy whose pixels weigh `weight` times as much, for every task."""
    copy = sample.new()
    for task in tasks.values():
        given, target = sample.get(task.weight_field), sample.get(task.field).data
        ones = torch.ones_like(target[:1], dtype=torch.float32) if given is None else given.data
        copy.set_data({task.weight_field: PixelData(data=weight * ones)})
    return copy
