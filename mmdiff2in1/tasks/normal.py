"""Surface normals: unit vectors in the camera frame, x right, y up, z towards the viewer; zero where not known."""

import cv2
import numpy as np
import torch.nn.functional as F
from mmseg.registry import TASK_UTILS
from torch import Tensor

from .base import DenseTask

_FULL = 65535


@TASK_UTILS.register_module()
class SurfaceNormal(DenseTask):
    """Unit vectors: float32 in maps and targets, uint16 `round((n + 1) / 2 * 65535)` in files.

    Invalid is the zero vector in memory and (0, 0, 0) on disk, which no unit vector is written as.
    """

    name = 'normal'
    field = 'gt_normal_map'
    channels = 3
    invalid = 0.0

    def activate(self, logits: Tensor) -> Tensor:
        """Vectors of unit length (B, 3, H, W)."""
        self._check_channels(logits)
        return F.normalize(logits, dim=1)

    def pseudo_label(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The predicted vectors at unit length; zero where a prediction has no direction."""
        vectors = output.detach()
        self._check_channels(vectors)
        length = vectors.norm(dim=1, keepdim=True)
        usable = length.isfinite() & (length > 1e-6)
        return (vectors / length).masked_fill(~usable, self.invalid), None

    def valid(self, target: Tensor) -> Tensor:
        """Where a target (B, 3, H, W) is not the zero vector."""
        return (target != 0).any(dim=1, keepdim=True)

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Unit or zero vectors (H, W, 3) to uint16 RGB; the error of a component is at most 1 / 65535."""
        length = np.linalg.norm(array, axis=-1)
        wrong = ~((np.abs(length - 1) < 1e-2) | (length == 0))
        if wrong.any():
            raise ValueError(
                f'normal: {int(wrong.sum())} vectors have a length like {float(length[wrong][0]):.4g}, expected 1, '
                'or 0 where the normal is not known; normalise the map first'
            )
        written = np.round((array + 1) / 2 * _FULL).astype(np.uint16)
        return np.where(length[..., None] == 0, np.uint16(0), written)

    def decode(self, array: np.ndarray) -> np.ndarray:
        """uint16 RGB to float32 unit vectors (H, W, 3); (0, 0, 0) to the zero vector."""
        self._check_file(array, np.uint16, 3)
        known = array.any(axis=-1, keepdims=True)
        vectors = array.astype(np.float32) / _FULL * 2 - 1
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        wrong = known & (np.abs(length - 1) > 0.1)
        if wrong.any():
            raise ValueError(
                f'normal: {int(wrong.sum())} vectors of the label file have a length like '
                f'{float(length[wrong][0]):.3g}, expected 1; pixels without a normal are written as (0, 0, 0)'
            )
        return np.where(known, vectors / np.where(known, length, 1), 0).astype(np.float32)

    def flip(self, array: np.ndarray) -> np.ndarray:
        """Mirrored map with x negated."""
        return super().flip(array) * np.array([-1, 1, 1], array.dtype)

    def resize(self, array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bilinear mean of the known vectors, at unit length again; zero where less than half is known."""
        known = array.any(axis=-1).astype(np.float32)
        height, width = size
        weight = cv2.resize(known, (width, height), interpolation=cv2.INTER_LINEAR)
        vectors = cv2.resize(array.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        keep = (weight[..., None] >= 0.5) & (length > 1e-3)  # opposite vectors may cancel out
        return np.where(keep, vectors / np.where(keep, length, 1), 0).astype(np.float32)

    def colours(self, array: np.ndarray) -> np.ndarray:
        """The usual (n + 1) / 2 as RGB: right is red, up is green, towards the viewer is blue."""
        picture = np.round((array + 1) / 2 * 255).astype(np.uint8)
        return np.where(array.any(axis=-1, keepdims=True), picture, np.uint8(0))

    @property
    def loss(self) -> None:
        """None: neither mmseg nor this release has an angular loss; a config must name its own."""
        return None

    @property
    def metric(self) -> None:
        """None: neither mmseg nor this release has an angular metric; a config must name its own."""
        return None
