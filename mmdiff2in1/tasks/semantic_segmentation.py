"""Semantic segmentation: one class index per pixel."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmseg.registry import TASK_UTILS
from torch import Tensor

from .base import DenseTask, nearest


@TASK_UTILS.register_module()
class SemanticSegmentation(DenseTask):
    """Class indices 0 ... K - 1, uint8 in maps and files, int64 in targets.

    Args:
        num_classes: K.
        ignore_index: The index of pixels without a class.
        palette: K RGB triples in 0-255; None: K hues that are easy to tell apart.

    Raises:
        ValueError: K outside [1, 255], an ignored index that is a class or does not fit 8 bits, or a palette of
            another length.
    """

    name = 'semantic_segmentation'
    field = 'gt_sem_seg'
    path_key = 'seg_map_path'

    def __init__(
        self, num_classes: int, ignore_index: int = 255, palette: Sequence[Sequence[int]] | None = None
    ) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f'num_classes={num_classes}: expected 1 to 255, a label file has 8 bits')
        if not num_classes <= ignore_index <= 255:
            raise ValueError(f'ignore_index={ignore_index}: expected {num_classes} to 255, outside the classes')
        if palette is not None and len(palette) != num_classes:
            raise ValueError(f'palette has {len(palette)} colours for {num_classes} classes')
        self.num_classes = self.channels = num_classes
        self.ignore_index = self.invalid = ignore_index
        self.palette = _hues(num_classes) if palette is None else np.asarray(palette, np.uint8)

    def activate(self, logits: Tensor) -> Tensor:
        """Class probabilities (B, K, H, W)."""
        self._check_channels(logits)
        return logits.softmax(dim=1)

    def pseudo_label(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Most probable class (B, 1, H, W) int64 and its probability, from class logits; ignored where that is NaN."""
        confidence, target = self.activate(output.detach()).max(dim=1, keepdim=True)
        return target.masked_fill(confidence.isnan(), self.ignore_index), confidence

    def valid(self, target: Tensor) -> Tensor:
        """Where a target (B, 1, H, W) names a class."""
        return target != self.ignore_index

    def encode(self, array: np.ndarray) -> np.ndarray:
        """The indices as uint8."""
        self._check_range(array)
        return array.astype(np.uint8)

    def decode(self, array: np.ndarray) -> np.ndarray:
        """The indices as they are, after a look at their range."""
        self._check_file(array, [np.uint8], 2)
        self._check_range(array)
        return array

    def resize(self, array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Nearest neighbour."""
        return nearest(array, size)

    def colours(self, array: np.ndarray) -> np.ndarray:
        """Each class in its colour of the palette."""
        self._check_range(array)
        table = np.zeros((256, 3), np.uint8)
        table[: self.num_classes] = self.palette
        return table[array]

    @property
    def loss(self) -> dict[str, Any]:
        """Cross-entropy; the decode head knows the ignored index."""
        return dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)

    @property
    def metric(self) -> dict[str, Any]:
        """Mean intersection over union."""
        return dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index=self.ignore_index)

    def _check_range(self, array: np.ndarray) -> None:
        wrong = (array < 0) | ((array >= self.num_classes) & (array != self.ignore_index))
        if wrong.any():
            raise ValueError(
                f'semantic_segmentation: a label map holds {sorted(set(array[wrong].tolist()))[:5]}, expected classes '
                f'0 to {self.num_classes - 1} or {self.ignore_index} (ignored); check num_classes and the label files'
            )


def _hues(count: int) -> np.ndarray:
    """`count` RGB colours by golden-ratio steps around the colour circle, in three brightnesses."""
    step = np.arange(count)
    hsv = np.stack([(step * 0.618034 % 1) * 180, np.full(count, 170), 255 - 60 * (step % 3)], axis=-1)
    return cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0]
