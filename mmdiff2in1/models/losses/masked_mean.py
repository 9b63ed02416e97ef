"""The mean over some pixels, without asking the device how many there are."""

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of `values` where `mask` (the same shape) is true; 0 where it is nowhere, with a gradient of 0.

    With a `weight` of that shape, at least 0, the weighted mean.
    """
    if weight is None:
        return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)
    weight = torch.where(mask, weight, 0)
    total = weight.sum()
    return (torch.where(mask, values, 0) * weight).sum() / total.where(total > 0, 1)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
