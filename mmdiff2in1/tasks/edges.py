"""Edges: how sure it is that a pixel lies on the border of a thing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmseg.registry import TASK_UTILS
from torch import Tensor

from mmdiff2in1.core.problem import Problem

from .base import DenseTask, nearest

FULL_8, FULL_16 = 255, 65534
UNKNOWN_16 = 65535
WIDE = 0.1
"""Share of edge pixels in blocks of 2 × 2 from which lines count as two pixels wide; junctions have such blocks too."""
NO_EDGE, EDGE = (235, 235, 235), (160, 0, 40)


@TASK_UTILS.register_module()
class Edges(DenseTask):
    """Probabilities of an edge, float32 in [0, 1] in maps and targets, 255.0 where nothing is known. A head: one logit.

    Files of data sets are uint8, 255 on an edge, which leaves no number for what is not known. A map that has such
    pixels (a pseudo label, say) is written with 16 bits instead: 65534 on an edge, 65535 not known. Both are read.
    """

    name = 'edge'
    field = 'gt_edge'
    path_key = 'edge_map_path'
    logits_key = 'edge_logits'
    channels = 1
    invalid = 255.0
    has_confidence = True

    def activate(self, logits: Tensor) -> Tensor:
        """Probabilities (B, 1, H, W)."""
        self._check_channels(logits)
        return logits.sigmoid()

    def head_output(self, raw: Tensor) -> Tensor:
        """The logits as they are."""
        self._check_channels(raw)
        return raw

    def pseudo_label(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The probabilities of logits, and those of the likelier of edge and no edge, in [0.5, 1]."""
        probability = self.activate(output.detach())
        return probability.nan_to_num(self.invalid), torch.maximum(probability, 1 - probability)

    def predictions(self, output: Tensor) -> dict[str, Tensor]:
        """The logits (1, H, W) and the probabilities (1, H, W)."""
        return {self.logits_key: output, self.prediction: output.sigmoid()}

    def output_of(self, sample: Any) -> Tensor:
        """The logits (1, H, W)."""
        return sample.get(self.logits_key).data

    def mean_output(self, outputs: Sequence[Tensor]) -> Tensor:
        """The logits of the mean of the probabilities."""
        if len(outputs) == 1:
            return outputs[0]
        stacked, count = torch.stack(list(outputs)), math.log(len(outputs))
        log_edge, log_none = (F.logsigmoid(sign * stacked).logsumexp(0) - count for sign in (1, -1))
        return log_edge - log_none

    def valid(self, target: Tensor) -> Tensor:
        """Where a target (B, 1, H, W) holds a probability."""
        return target != self.invalid

    def encode(self, array: np.ndarray) -> np.ndarray:
        """uint8; uint16 if something is not known."""
        self._check_probabilities(array)
        unknown = array == self.invalid
        if not unknown.any():
            return np.round(array * FULL_8).astype(np.uint8)
        return np.where(unknown, UNKNOWN_16, np.round(np.where(unknown, 0, array) * FULL_16)).astype(np.uint16)

    def decode(self, array: np.ndarray) -> np.ndarray:
        """float32 in [0, 1], and 255.0 for 65535 of 16 bits."""
        self._check_file(array, [np.uint8, np.uint16], 2)
        if array.dtype == np.uint8:
            return array.astype(np.float32) / np.float32(FULL_8)
        probability = array.astype(np.float32) / np.float32(FULL_16)
        return np.where(array == UNKNOWN_16, np.float32(self.invalid), probability)

    def resize(self, array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Nearest neighbour, as the published recipes do: lines may break when a map shrinks."""
        return nearest(array, size)

    def colours(self, array: np.ndarray) -> np.ndarray:
        """From light grey, no edge, to dark red, an edge."""
        share = np.clip(array, 0, 1)[..., None]
        picture = np.round((1 - share) * np.array(NO_EDGE) + share * np.array(EDGE)).astype(np.uint8)
        return np.where((array == self.invalid)[..., None], np.uint8(0), picture)

    def condition(self, array: np.ndarray) -> np.ndarray:
        """White edges on black, as the ControlNets for edges were shown them."""
        grey = np.round(255 * np.where(array == self.invalid, 0, np.clip(array, 0, 1))).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)

    def legend(self, array: np.ndarray) -> list[tuple[str, tuple[int, int, int]]]:
        """The share that is known, and how much of it is an edge."""
        known = array != self.invalid
        share = float((array[known] > 0.5).mean()) if known.any() else 0.0
        return [*super().legend(array), (f'edge {share:.1%}', EDGE), (f'no edge {1 - share:.1%}', NO_EDGE)]

    def summary(self, array: np.ndarray) -> str:
        """How much of what is known is an edge."""
        known = array[array != self.invalid]
        return f'edges on {(known > 0.5).mean() * 100:.0f} %' if known.size else f'no {self.name} known'

    def inspect(self, raw: np.ndarray, array: np.ndarray, info: Mapping[str, Any]) -> tuple[int, int, int, int]:
        """Edge pixels, those in a block of 2 × 2 of them, those of the value 1 of 255, and all known ones."""
        edge = (array > 0.5) & (array != self.invalid)
        blocks = np.pad(edge[:-1, :-1] & edge[1:, :-1] & edge[:-1, 1:] & edge[1:, 1:], 1)
        wide = edge & (blocks[:-1, :-1] | blocks[1:, :-1] | blocks[:-1, 1:] | blocks[1:, 1:])
        ones = int((raw == 1).sum()) if raw.dtype == np.uint8 else 0
        return int(edge.sum()), int(wide.sum()), ones, int((array != self.invalid).sum())

    def judge(
        self, facts: Sequence[tuple[int, int, int, int]], info: Mapping[str, Any], where: str
    ) -> tuple[list[str], list[Problem]]:
        """An error where edges are 1, or nearly everything is one; a warning for lines wider than one pixel.

        They have two contours as a label image, and that is what the score reads.
        """
        edges, wide, ones, known = (sum(numbers) for numbers in zip(*facts, strict=True))
        share, problems = wide / max(1, edges), []
        if not edges:
            found, step = 'no edge in any map', 'Look at the files: 255 is an edge, not 1'
            problems.append(Problem('error' if ones else 'warning', 'no-edges', where, found, 'lines of 255', step))
        elif edges > known / 2:
            found = f'edges on {edges / known:.0%} of the pixels'
            step = 'Look at the files: 255 is an edge, 0 is none'
            problems.append(Problem('error', 'all-edges', where, found, 'lines of 255 on 0', step))
        elif share > WIDE:
            found = f'lines of two pixels and more: {share:.0%} of the edge pixels lie in blocks of 2 × 2'
            step = (
                'The protocol of NYUD-MT takes the file for a label image, in which such a line has two contours: thin '
                'the lines, or do not compare odsF with published figures'
            )
            problems.append(Problem('warning', 'edge-width', where, found, 'lines of one pixel', step))
        return [f'edges: {share:.1%} of the edge pixels in lines wider than one pixel'], problems

    @property
    def loss(self) -> dict[str, Any]:
        """Binary cross-entropy in which an edge weighs 19 times as much."""
        return dict(type='EdgeLoss')

    @property
    def metric(self) -> dict[str, Any]:
        """F-measure at the best threshold of the set, of thinned contours (odsF)."""
        return dict(type='EdgeMetric')

    def _check_probabilities(self, array: np.ndarray) -> None:
        wrong = ~((array >= 0) & (array <= 1)) & (array != self.invalid)
        if wrong.any():
            raise ValueError(
                f'edge: {int(wrong.sum())} pixels hold values like {float(array[wrong][0])}, expected probabilities in '
                f'[0, 1], or {self.invalid} where nothing is known'
            )
