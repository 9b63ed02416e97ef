"""Weights are numbers: one that is none, of a damaged file or a failed training, makes all that it touches so."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


def check_finite(state: Mapping[str, Tensor], place: str | Path) -> None:
    """Raises ValueError that names the file or folder ``place`` and the first tensor with NaN or infinite values."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(
                f'{place}: {name} holds values that are not finite; expected numbers. The file is damaged, or its '
                'training failed: fetch it again, or take another checkpoint'
            )
