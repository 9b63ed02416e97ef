"""The mean over some pixels, without asking the device how many there are."""

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` (the same shape) is true; 0 where it is nowhere, with a gradient of 0."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
