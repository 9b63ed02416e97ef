"""Sine positions of the pixels of a map (Vaswani et al., 2017; on the plane as in Carion et al., 2020)."""

import math

import torch
from torch import Tensor

_TEMPERATURE = 10000.0


def sine_position(size: tuple[int, int], channels: int, device: torch.device | None = None) -> Tensor:
    """(C, h, w) float32: the first half of the channels tells the row, the second half the column.

    Row i of h counts as 2π (i + 1) / h whatever h is, so maps of several scales agree about where they are. Channels 2k
    and 2k + 1 of a half hold sine and cosine of that angle times 10000^(−4k / C).

    Raises:
        ValueError: `channels` cannot be divided by 4.
    """
    if channels % 4:
        raise ValueError(
            f'sine positions in {channels} channels: expected a multiple of 4 (rows, columns; sine, cosine)'
        )
    step = torch.arange(channels // 4, dtype=torch.float32, device=device)
    frequencies = _TEMPERATURE ** (-4 * step / channels)
    rows, columns = (_of_axis(length, frequencies) for length in size)
    height, width = size
    return torch.cat([rows[:, :, None].expand(-1, -1, width), columns[:, None].expand(-1, height, -1)])


def _of_axis(length: int, frequencies: Tensor) -> Tensor:
    angles = 2 * math.pi * torch.arange(1, length + 1, dtype=torch.float32, device=frequencies.device) / (length + 1e-6)
    phases = frequencies[:, None] * angles
    return torch.stack([phases.sin(), phases.cos()], dim=1).flatten(0, 1)
