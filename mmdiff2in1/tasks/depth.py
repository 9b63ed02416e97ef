"""Depth: z-depth in metres, the distance along the optical axis; 0 where it is not known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmseg.registry import TASK_UTILS
from torch import Tensor

from mmdiff2in1.core.problem import Problem

from .base import DenseTask, nearest

FULL = 65535  # the largest number of 16 bits
SATURATED = 0.001  # a share of pixels with the largest number that no scene has by accident
NEAR, FAR = 0.5, 20.0  # metres: the median depth of an indoor image lies between


@dataclass(frozen=True)
class DepthFacts:
    """Of one file. `median`: metres, of the pixels with a depth; `full`: share of pixels that hold 65535."""

    median: float
    full: float


@TASK_UTILS.register_module()
class Depth(DenseTask):
    """Metres: float32 in maps and targets, 0 = invalid; uint16 millimetres in files, or metres in float files.

    Args:
        max_depth: Largest depth that a head predicts and that is scored, metres; a file must be able to hold it.
        units_per_metre: Of the 16-bit files: 1000 for millimetres (NYUv2, Scenes), 256 for KITTI.

    Raises:
        ValueError: `units_per_metre` not above 0, or `max_depth` outside what 16 bits hold.
    """

    name = 'depth'
    field = 'gt_depth_map'
    path_key = 'depth_map_path'
    channels = 1
    invalid = 0.0

    def __init__(self, max_depth: float = 10.0, units_per_metre: float = 1000.0) -> None:
        if not units_per_metre > 0:
            raise ValueError(f'units_per_metre={units_per_metre}: expected a number above 0')
        self.max_depth, self.units_per_metre = max_depth, units_per_metre
        if not 0 < max_depth <= self._most:
            raise ValueError(f'max_depth={max_depth}: expected metres in (0, {self._most:.5g}], what 16 bits hold')

    @property
    def _most(self) -> float:
        return FULL / self.units_per_metre

    def activate(self, logits: Tensor) -> Tensor:
        """Metres in (0, max_depth): sigmoid times `max_depth`, as VPD and mmseg's `VPDDepthHead` do."""
        self._check_channels(logits)
        return logits.sigmoid() * self.max_depth

    def pseudo_label(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The metres that a depth head put out, at most `max_depth`."""
        self._check_channels(output)
        metres = output.detach()
        usable = torch.isfinite(metres) & (metres > 0)
        return metres.clamp(max=self.max_depth).masked_fill(~usable, self.invalid), None

    def valid(self, target: Tensor) -> Tensor:
        """Where a target (B, 1, H, W) holds a depth."""
        return target > 0

    def encode(self, array: np.ndarray) -> np.ndarray:
        """Metres to uint16; the error is at most half a unit."""
        self._check_metres(array)
        return np.round(array * self.units_per_metre).astype(np.uint16)

    def decode(self, array: np.ndarray) -> np.ndarray:
        """uint16 units, or floating-point metres, to float32 metres."""
        self._check_file(array, [np.uint16, np.float32, np.float64], 2)
        if array.dtype == np.uint16:
            return array.astype(np.float32) / np.float32(self.units_per_metre)
        self._check_metres(array)
        return array.astype(np.float32)

    def rescale(self, array: np.ndarray, scale: float) -> np.ndarray:
        """Depth divided by `scale`: what looks larger is nearer."""
        return (array / scale).astype(array.dtype)

    def distance(self, array: np.ndarray) -> np.ndarray:
        """The metres themselves, infinite where not known."""
        return np.where(array > 0, array, np.inf).astype(array.dtype)

    def resize(self, array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Nearest neighbour: a mean over an edge would be a depth at which there is nothing."""
        return nearest(array, size)

    def colours(self, array: np.ndarray) -> np.ndarray:
        """Near is bright, far is dark, on the fixed scale 0 to `max_depth`, so that pictures compare."""
        level = np.round(255 * (1 - np.clip(array / self.max_depth, 0, 1))).astype(np.uint8)
        picture = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
        return np.where(array[..., None] > 0, picture, np.uint8(0))

    def condition(self, array: np.ndarray) -> np.ndarray:
        """Inverse depth in grey, from 0, the farthest known point of the map, to 255, its nearest.

        What MiDaS puts out, on whose maps the published ControlNets for depth were trained. One depth alone is 255.
        """
        known = array > 0
        inverse = 1 / np.where(known, array, 1).astype(np.float64)
        low, high = (inverse[known].min(), inverse[known].max()) if known.any() else (0.0, 1.0)
        level = (inverse - low) / (high - low) if high > low else np.ones_like(inverse)
        grey = np.round(255 * np.where(known, level, 0)).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)

    def legend(self, array: np.ndarray) -> list[tuple[str, tuple[int, int, int]]]:
        """The share that is known, and the colours of four depths."""
        scale = []
        for metres in np.linspace(0, self.max_depth, 5)[1:]:
            colour = self.colours(np.full((1, 1), metres, np.float32))[0, 0]
            scale.append((f'{metres:g} m', tuple(colour.tolist())))
        return super().legend(array) + scale

    def summary(self, array: np.ndarray) -> str:
        """The range of what is known."""
        known = array[array > 0]
        return f'{self.name} {known.min():.1f} … {known.max():.1f} m' if known.size else f'no {self.name} known'

    @classmethod
    def of_loader(cls, loader: type, settings: Mapping[str, Any]) -> 'Depth | None':
        """As mmseg's `LoadDepthAnnotation` reads it: a number of the file times `depth_rescale_factor`."""
        if not any(kind.__name__ == 'LoadDepthAnnotation' for kind in loader.__mro__):
            return None
        unit = float(settings.get('depth_rescale_factor', 1.0))
        return cls(min(10.0, FULL * unit), 1 / unit)

    def file_problems(self, path: str, raw: np.ndarray, array: np.ndarray | None) -> list[Problem]:
        """Eight bits: a picture of depth, and no depths."""
        if raw.dtype != np.uint8:
            return []
        channels = '' if raw.ndim == 2 else f' in {raw.shape[2]} channels'
        found = f'8 bits per value{channels}: a picture of depth, {len(np.unique(raw))} values'
        step = 'Get the 16-bit files of the set, or its .npy files: what a picture has lost cannot be computed back'
        expected = '16-bit millimetres, or metres as floating point'
        return [Problem('error', 'depth-bits', path, found, expected, step)]

    def inspect(self, raw: np.ndarray, array: np.ndarray, info: Mapping[str, Any]) -> DepthFacts | None:
        """The median, and how much is 65535; None if there is nothing else."""
        full = raw == FULL if raw.dtype == np.uint16 else np.zeros(raw.shape, bool)
        known = (array > 0) & ~full
        return DepthFacts(float(np.median(array[known])), float(full.mean())) if known.any() else None

    def judge(
        self, facts: Sequence[DepthFacts], info: Mapping[str, Any], where: str
    ) -> tuple[list[str], list[Problem]]:
        """Warnings for a unit other than this task's, and for 65535 in the place of 0."""
        problems = []
        medians = np.array([fact.median for fact in facts])
        strange = (medians < NEAR) | (medians > FAR)
        if strange.mean() > 0.5:
            found = f'a median depth of {np.median(medians):.4g} m; outside in {strange.sum()} of {len(facts)} maps'
            step = "Not millimetres? Set units_per_metre of the pipeline's task, or convert the files; fine outdoors"
            problems.append(Problem('warning', 'depth-unit', where, found, f'{NEAR:g} to {FAR:g} m indoors', step))
        full = float(np.mean([fact.full for fact in facts]))
        if full > SATURATED:
            found = f'{FULL}, the largest number of 16 bits, in {full:.2%} of the pixels'
            step = f'If {FULL} means no measurement, set these pixels to 0; else the distance is cut off there'
            problems.append(Problem('warning', 'depth-full', where, found, '0 where depth is not known', step))
        return [f'depth: median of an image {np.median(medians):.3g} m'], problems

    @property
    def loss(self) -> dict[str, Any]:
        """Scale-invariant logarithmic loss."""
        return dict(type='ScaleInvariantLogLoss')

    @property
    def metric(self) -> dict[str, Any]:
        """RMSE, absolute relative error and the other usual numbers over pooled pixels, on depths up to `max_depth`."""
        return dict(type='PooledDepthMetric', max_depth=self.max_depth)

    def _check_metres(self, array: np.ndarray) -> None:
        wrong = ~np.isfinite(array) | (array < 0) | (array > self._most)
        if wrong.any():
            raise ValueError(
                f'depth: {int(wrong.sum())} pixels hold values like {float(array[wrong][0])}, expected metres in '
                f'[0, {self._most:.5g}] with 0 where depth is not known; set those pixels to 0'
            )
