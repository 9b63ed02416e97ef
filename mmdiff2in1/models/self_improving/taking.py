"""Some samples of what a head gave, or was given, for a batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def take(outputs: Any, index: Sequence[int] | Tensor | None, batch_size: int) -> Any:
    """The samples at `index` of every tensor in a nest of lists, tuples and dicts; None: all of them.

    Raises:
        ValueError: A tensor whose first dimension is not the batch.
        TypeError: Something else than tensors in it.
    """
    if index is None or len(index) == batch_size or outputs is None:
        return outputs
    if isinstance(outputs, Tensor):
        if outputs.shape[:1] != (batch_size,):
            raise ValueError(
                f'A head gave a tensor of shape {tuple(outputs.shape)} for {batch_size} samples: its first dimension '
                'is not the batch, so samples cannot be told apart. Give the head a `loss` method of its own; it is '
                'then called once per kind.'
            )
        return outputs.index_select(0, torch.as_tensor(index, device=outputs.device))
    if isinstance(outputs, dict):
        return {name: take(value, index, batch_size) for name, value in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        values = [take(value, index, batch_size) for value in outputs]
        return values if isinstance(outputs, list) else tuple(values)
    raise TypeError(f'A head gave a {type(outputs).__name__}; expected tensors, or lists, tuples and dicts of them.')
