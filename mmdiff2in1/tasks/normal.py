"""Surface normals: unit vectors in the frame of NYUv2's normal maps; zero where not known.

The frame (docs/tasks.md has a picture): for the vector that leaves the surface on the visible side, x points LEFT, y
UP, z TOWARDS THE VIEWER. So a wall in front is (0, 0, 1), the floor (0, 1, 0), a wall on the right (1, 0, 0). It is
minus the normal in OpenCV's camera frame (x right, y down, z forward). Bae et al., DSINE and iDisc store and predict
it.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmseg.registry import TASK_UTILS
from torch import Tensor

from mmdiff2in1.core.problem import Problem

from .base import DenseTask
from .normal_frames import NormalFacts, frame_problems, normal_facts, normal_notes

_FULL = 65535
_FEW = 1e-3  # a share of the vectors of a file
_LEAST_KAPPA = 0.01
AXES = ('x', 'y', 'z')


@TASK_UTILS.register_module()
class SurfaceNormal(DenseTask):
    """Unit vectors: float32 in maps and targets, uint16 `round((n + 1) / 2 * 65535)` in files.

    Invalid is the zero vector in memory and (0, 0, 0) on disk, which no unit vector is written as.

    Args:
        kappa: A head puts out a fourth channel, the concentration κ > 0 (1/rad) of the angular von Mises-Fisher
            distribution (κ² + 1) e^(−κθ) / (2π (1 + e^(−κπ))) of the angle θ to its vector (Bae et al., 2021).
        within: A pseudo label's confidence is the probability that its angular error is below so many degrees.

    Raises:
        ValueError: `within` outside (0, 180).
    """

    name = 'normal'
    field = 'gt_normal_map'
    path_key = 'normal_map_path'
    target_channels = 3
    invalid = 0.0

    def __init__(self, kappa: bool = False, within: float = 22.5) -> None:
        if not 0 < within < 180:
            raise ValueError(f'within={within}: expected degrees in (0, 180)')
        self.kappa, self.within = kappa, within
        self.channels = 4 if kappa else 3
        self.has_confidence = kappa

    def activate(self, logits: Tensor) -> Tensor:
        """Vectors of unit length, (B, 3, H, W), and κ = elu + 1.01 as a fourth channel."""
        self._check_channels(logits)
        vectors = F.normalize(logits[:, :3], dim=1)
        return torch.cat([vectors, F.elu(logits[:, 3:]) + 1 + _LEAST_KAPPA], dim=1) if self.kappa else vectors

    def pseudo_label(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The predicted vectors at unit length, zero where there is no direction; with κ their confidence as well."""
        self._check_channels(output)
        output = output.detach()
        vectors = output[:, :3]
        length = vectors.norm(dim=1, keepdim=True)
        usable = length.isfinite() & (length > 1e-6)
        confidence = self.probability_within(output[:, 3:], self.within) if self.kappa else None
        return (vectors / length).masked_fill(~usable, self.invalid), confidence

    @staticmethod
    def probability_within(kappa: Tensor, degrees: float) -> Tensor:
        """Probability that the angle to the predicted vector is below `degrees`, of the distribution above.

        (1 − e^(−κt) (cos t + κ sin t)) / (1 + e^(−κπ)), t in radians; (1 − cos t) / 2 for κ = 0, a cap of the sphere.
        """
        t = math.radians(degrees)
        missed = torch.exp(-kappa * t) * (math.cos(t) + kappa * math.sin(t))
        return (1 - missed) / (1 + torch.exp(-kappa * math.pi))

    def flip_output(self, output: Tensor) -> Tensor:
        """Mirrored output with x negated."""
        sign = torch.ones(self.channels, 1, 1, dtype=output.dtype, device=output.device)
        sign[0] = -1
        return output.flip(-1) * sign

    def resize_output(self, output: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
        """Bilinear; vectors at unit length again."""
        output = super().resize_output(output, size, align_corners)
        return torch.cat([F.normalize(output[:, :3], dim=1), output[:, 3:]], dim=1)

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
        """RGB of 16 bits, or of 8 as public sets have it, or floating-point vectors → float32 unit vectors (H, W, 3).

        (0, 0, 0) is the zero vector. Eight bits are exact to about 0.4 degrees. A few vectors of another length than 1,
        up to a thousandth of them, become zero, with a warning; more are an error.
        """
        self._check_file(array, [np.uint16, np.uint8, np.float32, np.float64], 3)
        known = array.any(axis=-1, keepdims=True)
        vectors = array.astype(np.float32)
        if array.dtype.kind == 'u':
            vectors = vectors / np.float32(np.iinfo(array.dtype).max) * 2 - 1
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        wrong = known & ~(np.abs(length - 1) <= 0.1)
        if wrong.sum() > _FEW * known.sum() or not np.isfinite(vectors).all():
            raise ValueError(
                f'normal: {int(wrong.sum())} vectors of the label file have a length like '
                f'{float(length[wrong][0]):.3g}, expected 1; pixels without a normal are written as (0, 0, 0)'
            )
        if wrong.any():
            warnings.warn(
                'normal: a label file holds a few vectors whose length is not 1; they count as not known '
                '(mmdiff2in1 check names the files)',
                stacklevel=2,
            )
            known = known & ~wrong
        return np.where(known, vectors / np.where(known, length, 1), 0).astype(np.float32)

    def reorient(self, array: np.ndarray, axes: Sequence[str]) -> np.ndarray:
        """A map (H, W, 3) of a set with another frame: `axes` names the signed axis of the file that each of ours is.

        ('-x', '-y', '-z') for FrameNet's maps of ScanNet, ('-z', '-y', '-x') for Ladicky's of NYUv2.

        Raises:
            ValueError: Not a signed permutation of x, y, z.
        """
        names = [str(axis).removeprefix('-') for axis in axes]
        if sorted(names) != sorted(AXES):
            raise ValueError(
                f"label_axes={tuple(axes)}: expected x, y and z in some order, each with a '-' or without, e.g. "
                "('-x', '-y', '-z')"
            )
        signs = [-1 if str(axis).startswith('-') else 1 for axis in axes]
        return np.ascontiguousarray(array[..., [AXES.index(name) for name in names]] * np.array(signs, array.dtype))

    def flip(self, array: np.ndarray) -> np.ndarray:
        """Mirrored map with x negated."""
        return super().flip(array) * np.array([-1, 1, 1], array.dtype)

    def resize(self, array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bilinear mean of the known vectors, at unit length again; zero where less than half is known."""
        if array.shape[:2] == tuple(size):
            return array.astype(np.float32)
        known = array.any(axis=-1).astype(np.float32)
        height, width = size
        weight = cv2.resize(known, (width, height), interpolation=cv2.INTER_LINEAR)
        vectors = cv2.resize(array.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        keep = (weight[..., None] >= 0.5) & (length > 1e-3)  # opposite vectors may cancel out
        return np.where(keep, vectors / np.where(keep, length, 1), 0).astype(np.float32)

    def colours(self, array: np.ndarray) -> np.ndarray:
        """The usual (n + 1) / 2 as RGB: facing left is red, up is green, towards the viewer is blue."""
        picture = np.round((array + 1) / 2 * 255).astype(np.uint8)
        return np.where(array.any(axis=-1, keepdims=True), picture, np.uint8(0))

    def condition(self, array: np.ndarray) -> np.ndarray:
        """The same as `colours`: the published ControlNets for normals have this frame.

        Red is left, green up, blue towards the viewer, in control_v11p_sd15_normalbae (Bae et al.'s normals, ScanNet's
        protocol). In sd-controlnet-normal, whose maps are gradients of inverse depth, as well: it takes BGR, which its
        config.json says (`controlnet_conditioning_channel_order`) and diffusers obeys.
        """
        return self.colours(array)

    def legend(self, array: np.ndarray) -> list[tuple[str, tuple[int, int, int]]]:
        """The share that is known, and where five colours face."""
        facing = dict(
            viewer=(128, 128, 255), up=(128, 255, 128), down=(128, 0, 128), left=(255, 128, 128), right=(0, 128, 128)
        )
        named = [(f'facing {"the viewer" if where == "viewer" else where}', colour) for where, colour in facing.items()]
        return super().legend(array) + named

    def file_problems(self, path: str, raw: np.ndarray, array: np.ndarray | None) -> list[Problem]:
        """The few vectors whose length is not 1 that `decode` lets pass."""
        lost = 0 if array is None else int((raw.any(-1) & ~array.any(-1)).sum())
        if not lost:
            return []
        step = 'They count as not known. Fine for a few; if they lie together, the set may mark unknown pixels so'
        found = f'{lost} vectors whose length is not 1'
        return [Problem('warning', 'vector-length', path, found, 'unit vectors, or black', step)]

    def inspect(self, raw: np.ndarray, array: np.ndarray, info: Mapping[str, Any]) -> NormalFacts | None:
        """Facts of a map about its frame."""
        return normal_facts(array, info.get('label_axes'), 8 * raw.dtype.itemsize)

    def judge(
        self, facts: Sequence[NormalFacts], info: Mapping[str, Any], where: str
    ) -> tuple[list[str], list[Problem]]:
        """A warning for a frame other than the one that the data set declares."""
        axes = info.get('label_axes')
        return normal_notes(facts, axes), frame_problems(facts, axes, where)

    @property
    def loss(self) -> dict[str, Any]:
        """Negative log-likelihood of the distribution above; without κ one minus the cosine."""
        return dict(type='AngularVMFLoss' if self.kappa else 'CosineNormalLoss')

    @property
    def metric(self) -> dict[str, Any]:
        """Mean, median, RMSE of the angular error and shares below the usual angles, over pooled pixels."""
        return dict(type='SurfaceNormalMetric')
