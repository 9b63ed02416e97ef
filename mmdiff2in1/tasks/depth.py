"""Depth: z-depth in metres, the distance along the optical axis; 0 where it is not known."""

from typing import Any

import cv2
import numpy as np
import torch
from mmseg.registry import TASK_UTILS
from torch import Tensor

from .base import DenseTask, nearest

_MOST = 65.535  # metres in 16 bits of millimetres


@TASK_UTILS.register_module()
class Depth(DenseTask):
    """Metres: float32 in maps and targets, uint16 millimetres in files, 0 = invalid.

    Args:
        max_depth: Largest depth that a head predicts and that is scored, metres, at most 65.535.

    Raises:
        ValueError: `max_depth` outside (0, 65.535].
    """

    name = 'depth'
    field = 'gt_depth_map'
    channels = 1
    invalid = 0.0

    def __init__(self, max_depth: float = 10.0) -> None:
        if not 0 < max_depth <= _MOST:
            raise ValueError(f'max_depth={max_depth}: expected metres in (0, {_MOST}]')
        self.max_depth = max_depth

    def activate(self, logits: Tensor) -> Tensor:
        """Metres in (0, max_depth): sigmoid times `max_depth`, as mmseg's `VPDDepthHead` does."""
        self._check_channels(logits)
        return logits.sigmoid() * self.max_depth

    def pseudo_label(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The metres that a depth head put out (mmseg's heads activate on their own), at most `max_depth`."""
        self._check_channels(output)
        metres = output.detach()
        usable = torch.isfinite(metres) & (metres > 0)
        return metres.clamp(max=self.max_depth).masked_fill(~usable, self.invalid), None

    def valid(self, target: Tensor) -> Tensor:
        """Where a target (B, 1, H, W) holds a depth."""
        return target > 0

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Metres to uint16 millimetres; the error is at most half a millimetre."""
        wrong = ~np.isfinite(array) | (array < 0) | (array > _MOST)
        if wrong.any():
            raise ValueError(
                f'depth: {int(wrong.sum())} pixels hold values like {float(array[wrong][0])}, expected metres in '
                f'[0, {_MOST}] with 0 where depth is not known; set those pixels to 0'
            )
        return np.round(array * 1000).astype(np.uint16)

    def decode(self, array: np.ndarray) -> np.ndarray:
        """uint16 millimetres to float32 metres."""
        self._check_file(array, np.uint16, 2)
        return array.astype(np.float32) / 1000

    def rescale(self, array: np.ndarray, scale: float) -> np.ndarray:
        """Depth divided by `scale`: what looks larger is nearer."""
        return (array / scale).astype(array.dtype)

    def resize(self, array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Nearest neighbour: a mean over an edge would be a depth at which there is nothing."""
        return nearest(array, size)

    def colours(self, array: np.ndarray) -> np.ndarray:
        """Near is bright, far is dark, on the fixed scale 0 to `max_depth`, so that pictures compare."""
        level = np.round(255 * (1 - np.clip(array / self.max_depth, 0, 1))).astype(np.uint8)
        picture = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
        return np.where(array[..., None] > 0, picture, np.uint8(0))

    @property
    def loss(self) -> dict[str, Any]:
        """Scale-invariant logarithmic loss; it leaves out pixels of depth 0."""
        return dict(type='SiLogLoss', loss_weight=1.0)

    @property
    def metric(self) -> dict[str, Any]:
        """RMSE, absolute relative error and the other usual numbers, on depths up to `max_depth`."""
        return dict(type='DepthMetric', min_depth_eval=1e-3, max_depth_eval=self.max_depth)
