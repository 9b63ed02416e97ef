"""Weights are numbers: one that is none, of a damaged file or a failed training, makes all that it touches so."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """False if a value is NaN or infinite.

    Any such value makes the sum so: weights are read once, 25 times as fast as each is looked at. A sum may also be too
    large for its type where no value is; then each is looked at, as in types of 8 bits, which know no sum.
    """
    summed = tensor.element_size() > 1 and bool(tensor.sum().isfinite())
    return summed or bool(tensor.isfinite().all())


def check_finite(state: Mapping[str, Tensor], place: str | Path) -> None:
    """Raises ValueError that names the file or folder ``place`` and the first tensor with NaN or infinite values."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not all_finite(tensor):
            raise ValueError(
                f'{place}: {name} holds values that are not finite; expected numbers. The file is damaged, or its '
                'training failed: fetch it again, or take another checkpoint'
            )
