"""The interface of every dense task: encoding, geometry, pseudo labels, default loss and metric, colours.

Shapes: B, C, H, W of what a head puts out; (B, c, H, W) a target in a model, c = 1 or 3; (H, W) or (H, W, 3) one map.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiff2in1.core.problem import Problem

VALID_REGION = 'gt_valid_region'
"""Key, in a `SegDataSample`, of the pixels (1, H, W) bool in which a data set may have ground truth at all."""


class DenseTask(ABC):
    """One dense task; subclasses are registered in `TASK_UTILS` and hold no state but their settings.

    Attributes:
        name: Name of the task.
        field: Key of the target in a `SegDataSample`; the prediction stands under `prediction`.
        path_key: Key of the label file in what a dataset's `get_data_info` gives.
        channels: Channels that a head puts out.
        target_channels: c, channels of a target.
        invalid: Value of a target where nothing is known, padding included; the same in every channel.
        target_dtype: Type of a target's values.
        has_confidence: Whether `pseudo_label` gives a confidence.
        num_classes: K of a task whose predictions are probabilities of classes, see `class_logits`; else 0.

    Two sides meet here. In memory a *map* is a NumPy array, (H, W) or (H, W, 3), and a batched *target* a torch tensor
    (B, c, H, W) with the same values; on disk a map is the array that `encode` returns, written as PNG. Three-channel
    arrays are in RGB order; OpenCV reads and writes BGR.
    """

    name: str
    field: str
    path_key: str
    channels: int
    target_channels: int = 1
    invalid: float
    target_dtype: torch.dtype = torch.float32
    has_confidence: bool = False
    num_classes: int = 0

    @property
    def prediction(self) -> str:
        """Key of the prediction in a `SegDataSample`."""
        return self.field.replace('gt_', 'pred_')

    @property
    def weight_field(self) -> str:
        """Key of the weights (1, H, W) of a target's pixels in a `SegDataSample`; without them all weigh 1."""
        return f'{self.field}_weight'

    def predictions(self, output: Tensor) -> dict[str, Tensor]:
        """Entries of a `SegDataSample` for an output (C, H, W), by its keys."""
        return {self.prediction: output}

    def output_of(self, sample: Any) -> Tensor:
        """The output (C, H, W) in a `SegDataSample` with predictions; some of mmseg's leave it under `seg_logits`."""
        found = sample.get(self.prediction)
        return (sample.seg_logits if found is None else found).data

    def predicted_map(self, sample: Any) -> np.ndarray:
        """The map in a `SegDataSample` with predictions."""
        return self.to_map(self.pseudo_label(self.output_of(sample)[None])[0][0])

    # --- in the model ----------------------------------------------------------------------------------------------

    @abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """Prediction (B, C, H, W) from the raw last layer of a head.

        Raises:
            ValueError: Another number of channels than the task has.
        """

    def head_output(self, raw: Tensor) -> Tensor:
        """Output of a head, (B, C, H, W), from its raw last layer: logits where the task has them, else activated.

        Raises:
            ValueError: Another number of channels than the task has.
        """
        return self.activate(raw)

    @abstractmethod
    def pseudo_label(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Target for another model, from what a segmentor's `encode_decode` puts out; no gradient flows.

        Args:
            output: (B, C, H, W) as heads leave it, see `head_output`: logits, metres, or normals of any length.

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

    def unknown_target(self, size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """A target (c, H, W) that says nothing."""
        return torch.full((self.target_channels, *map(int, size)), self.invalid, dtype=self.target_dtype, device=device)

    def to_map(self, target: Tensor) -> np.ndarray:
        """The map, (H, W) or (H, W, 3), of one target (c, H, W)."""
        array = target.cpu().numpy()
        return array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))

    def to_target(self, array: np.ndarray) -> Tensor:
        """The target (c, H, W) of a map, (H, W) or (H, W, 3)."""
        channels_first = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(channels_first)).to(self.target_dtype)

    def resize_output(self, output: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
        """Output (B, C, H, W) at another size (H, W), bilinear; also puts means of outputs in order."""
        if tuple(output.shape[-2:]) == tuple(size):
            return output
        return F.interpolate(output, size, mode='bilinear', align_corners=align_corners)

    def mean_output(self, outputs: Sequence[Tensor]) -> Tensor:
        """The output (B, C, H, W) that several of one image stand for: their mean, put in order."""
        mean = torch.stack(list(outputs)).mean(0)
        return self.resize_output(mean, (int(mean.shape[-2]), int(mean.shape[-1])))

    def output_for(self, other: 'DenseTask', output: Tensor) -> Tensor:
        """An output (B, C, H, W) of this task as the head of `other` puts it out: the same task of another model."""
        return output

    def class_logits(self, output: Tensor) -> Tensor:
        """Logits (B, K, H, W) whose softmax are the probabilities of classes.

        Raises:
            TypeError: This task has no classes.
        """
        raise TypeError(f'{self.name} has no classes, and so no probabilities of them')

    def invalidate(self, target: Tensor, mask: Tensor) -> Tensor:
        """Copy of a target (B, c, H, W) that says nothing where `mask` (B, 1, H, W) is true."""
        return target.masked_fill(mask.to(target.device, torch.bool), self.invalid)

    # --- maps and files --------------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, array: np.ndarray) -> np.ndarray:
        """Array that is written to the PNG for a map.

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

    def unknown(self, size: Sequence[int]) -> np.ndarray:
        """A map of (H, W) that says nothing."""
        return self.to_map(self.unknown_target(size))

    def known(self, array: np.ndarray) -> np.ndarray:
        """Where a map says something: bool (H, W)."""
        return self.valid(self.to_target(array)[None])[0, 0].numpy()

    def rescale(self, array: np.ndarray, scale: float) -> np.ndarray:
        """Values of a map after its image was enlarged by `scale` (see `resize` for the grid itself)."""
        return array.copy()

    def distance(self, array: np.ndarray) -> np.ndarray | None:
        """How far what each pixel of a map shows is, (H, W), infinite where not known; None: such maps do not tell."""
        return None

    @abstractmethod
    def colours(self, array: np.ndarray) -> np.ndarray:
        """A map as a picture: (H, W, 3) uint8 RGB, black where invalid."""

    def condition(self, array: np.ndarray) -> np.ndarray:
        """A map as published ControlNets are shown it: (H, W, 3) uint8 RGB, black where nothing is known."""
        return self.colours(array)

    def legend(self, array: np.ndarray) -> list[tuple[str, tuple[int, int, int]]]:
        """Legend of a map: text and RGB, what matters most first."""
        return [(f'{self.name}: {self.known(array).mean():.1%} of the pixels', (60, 60, 60))]

    def summary(self, array: np.ndarray) -> str:
        """What a map says, in a few words."""
        return f'{self.name} known in {self.known(array).mean() * 100:.0f} %'

    def of_dataset(self, meta: Mapping[str, Any]) -> 'DenseTask':
        """This task with the names and colours that a data set's metainfo gives it."""
        return self

    # --- what a check of a data set asks -----------------------------------------------------------------------------

    @classmethod
    def of_loader(cls, loader: type, settings: Mapping[str, Any]) -> 'DenseTask | None':
        """This task as a transform of mmseg with these settings reads it; None: that one loads something else."""
        return None

    def file_problems(self, path: str, raw: np.ndarray, array: np.ndarray | None) -> list[Problem]:
        """Problems of one label file, beyond what `decode` raises and maps that say nothing.

        Args:
            path: Of the file, for the problems.
            raw: Its content.
            array: Its map; None: `decode` refuses it, and is quoted unless something is found here.
        """
        return []

    def inspect(self, raw: np.ndarray, array: np.ndarray, info: Mapping[str, Any]) -> Any:
        """Facts of one map that tell something only with those of many: anything that `judge` reads; None: nothing.

        Args:
            raw: Content of the file.
            array: Its map in the axes of the file, which says something somewhere.
            info: What the data set's `get_data_info` gives for this sample.
        """
        return None

    def judge(self, facts: Sequence[Any], info: Mapping[str, Any], where: str) -> tuple[list[str], list[Problem]]:
        """Lines for a report, and problems, of a whole data set.

        Args:
            facts: What `inspect` gave for its maps, at least one.
            info: Data info of one of its samples.
            where: Folder of the maps, for the problems.
        """
        return [], []

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
        hidden = ('palette', 'classes', 'has_confidence')
        shown = {key: value for key, value in vars(self).items() if key not in hidden and not key.startswith('_')}
        settings = ', '.join(f'{key}={value!r}' for key, value in shown.items())
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
