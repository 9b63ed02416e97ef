"""The numbers of a model, by name, type and shape, in a hash."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def add_tensors(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Updates ``digest`` (of hashlib) with ``tensors``, in the order of their names."""
    for name, tensor in sorted(tensors.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
