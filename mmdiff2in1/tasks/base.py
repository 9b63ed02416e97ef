"""What every dense task answers: encoding, geometry, pseudo labels, default loss and metric, colours.

Shapes: B, C, H, W of what a head puts out; (B, c, H, W) a target in a model, c = 1 or 3; (H, W) or (H, W, 3) one map.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

VALID_REGION = 'gt_valid_region'
"""Key, in a `SegDataSample`, of the pixels (1, H, W) bool in which a data set may have ground truth at all."""


class DenseTask(ABC):
    """One dense task; subclasses are registered in `TASK_UTILS` and hold no state but their settings.

    Attributes:
        name: Name of the task.
        field: Key of the target in a `SegDataSample`; the prediction stands under `prediction`.
        path_key: Key of the label file in what a dataset's `get_data_info` gives.
        channels: Channels that a head puts out.
        invalid: Value of a target where nothing is known; the same in every channel.

    Two sides meet here. In memory a *map* is a NumPy array, (H, W) or (H, W, 3), and a batched *target* a torch tensor
    (B, c, H, W) with the same values; on disk a map is the array that `encode` returns, written as PNG. Three-channel
    arrays are in RGB order; OpenCV reads and writes BGR.
    """

    name: str
    field: str
    path_key: str
    channels: int
    invalid: float

    @property
    def prediction(self) -> str:
        """Key of the prediction in a `SegDataSample`."""
        return self.field.replace('gt_', 'pred_')

    # --- in the model ----------------------------------------------------------------------------------------------

    @abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """Prediction (B, C, H, W) from the raw last layer of a head.

        Raises:
            ValueError: Another number of channels than the task has.
        """

    @abstractmethod
    def pseudo_label(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Target for another model, from what a segmentor's `encode_decode` puts out; no gradient flows.

        Args:
            output: (B, C, H, W) as mmseg's heads leave it: class logits, metres, or normals of any length.

        Returns:
            The target (B, c, H, W), invalid where the prediction is not usable, and its confidence (B, 1, H, W) in
            [0, 1], or None for tasks that have none.

        Raises:
            ValueError: Another number of channels than the task has.
        """

    @abstractmethod
    def valid(self, target: Tensor) -> Tensor:
        """Where a target (B, c, H, W) says something: bool (B, 1, H, W)."""

    def flip_output(self, output: Tensor) -> Tensor:
        """Output (B, C, H, W) for the horizontally mirrored images."""
        return output.flip(-1)

    def resize_output(self, output: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
        """Output (B, C, H, W) at another size (H, W), bilinear; also puts means of outputs in order."""
        if tuple(output.shape[-2:]) == tuple(size):
            return output
        return F.interpolate(output, size, mode='bilinear', align_corners=align_corners)

    def invalidate(self, target: Tensor, mask: Tensor) -> Tensor:
        """Copy of a target (B, c, H, W) that says nothing where `mask` (B, 1, H, W) is true."""
        return target.masked_fill(mask.to(target.device, torch.bool), self.invalid)

    # --- maps and files --------------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, array: np.ndarray) -> np.ndarray:
        """What is written to the PNG for a map.

        Raises:
            ValueError: Values that the task does not have or the file cannot hold.
        """

    @abstractmethod
    def decode(self, array: np.ndarray) -> np.ndarray:
        """The map in a label file, as `encode` wrote it or as public data sets have it.

        Raises:
            ValueError: Wrong number of channels or of bits, or values that no map has.
        """

    @abstractmethod
    def resize(self, array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A map at another size (H, W); never mixes valid with invalid."""

    def flip(self, array: np.ndarray) -> np.ndarray:
        """A map of the horizontally mirrored scene."""
        return np.ascontiguousarray(array[:, ::-1])

    def reorient(self, array: np.ndarray, axes: Sequence[str]) -> np.ndarray:
        """A map whose file has other axes than ours; see `SurfaceNormal.reorient`."""
        raise ValueError(f'{self.name}: label_axes={tuple(axes)} is set, but these maps hold no vectors; leave it out')

    def unknown(self, size: tuple[int, int]) -> np.ndarray:
        """A map that says nothing, (H, W) float32."""
        return np.full(size, self.invalid, np.float32)

    def rescale(self, array: np.ndarray, scale: float) -> np.ndarray:
        """Values of a map after its image was enlarged by `scale` (see `resize` for the grid itself)."""
        return array.copy()

    @abstractmethod
    def colours(self, array: np.ndarray) -> np.ndarray:
        """A map as a picture: (H, W, 3) uint8 RGB, black where invalid."""

    # --- defaults, by registry name --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def loss(self) -> dict[str, Any]:
        """Config of the default loss for mmseg's `MODELS`."""

    @property
    @abstractmethod
    def metric(self) -> dict[str, Any]:
        """Config of the default metric for mmseg's `METRICS`."""

    def __repr__(self) -> str:
        settings = ', '.join(f'{key}={value!r}' for key, value in vars(self).items() if key != 'palette')
        return f'{type(self).__name__}({settings})'

    def _check_channels(self, output: Tensor) -> None:
        if output.ndim != 4 or output.shape[1] != self.channels:
            raise ValueError(
                f'{self.name}: a head gave an output of shape {tuple(output.shape)}, expected (B, {self.channels}, H, '
                'W); the task and the decode head must agree'
            )

    def _check_file(self, array: np.ndarray, dtypes: Sequence[type], ndim: int) -> None:
        if array.dtype not in dtypes or array.ndim != ndim or (ndim == 3 and array.shape[2] != 3):
            shape = '(H, W)' if ndim == 2 else '(H, W, 3)'
            names = ' or '.join(np.dtype(dtype).name for dtype in dtypes)
            raise ValueError(
                f'{self.name}: the label file holds {array.dtype} of shape {array.shape}, expected {names} of shape '
                f'{shape}; convert the file'
            )


def nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resize of (H, W, ...) with pixel centres aligned, as bilinear image resizing aligns them.

    OpenCV's own nearest mode aligns corners instead and shifts labels by up to half a pixel.
    """
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(size, array.shape[:2], strict=True)
    )
    return array[rows][:, columns]
