"""Semantic segmentation: one class index per pixel; other tasks of classes are kinds of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmseg.registry import TASK_UTILS
from torch import Tensor

from mmdiff2in1.core.problem import Problem

from .base import DenseTask, nearest

SUMMED_UP = 4
"""Classes that a summary names."""
TINY = 1e-12
"""Scores below count as this much, so that they have a logarithm."""


@TASK_UTILS.register_module()
class SemanticSegmentation(DenseTask):
    """Class indices 0 ... K - 1, uint8 in maps and files, int64 in targets.

    Args:
        num_classes: K.
        ignore_index: The index of pixels without a class.
        palette: K RGB triples in 0-255; None: K hues that are easy to tell apart.
        threshold: A head of mmseg with one channel for two classes: class 1 is where its sigmoid is above.
        mirrored_pairs: Classes that change places in a mirror, such as the left and the right arm.
        classes: K names, for legends.
        scores: A head gives scores >= 0 that are no logits, Σ softmax · sigmoid over its masks, as MaskFormer does.

    An ignored index below K is a class that no pixel is taught, and that says nothing where it is predicted (mmseg's
    configs for HSI-Drive).

    Raises:
        ValueError: K outside [1, 255], an ignored index that does not fit 8 bits, a palette or names of another number,
            a threshold outside (0, 1), with other than two classes or with scores, pairs of no classes or of one logit.
    """

    name = 'semantic_segmentation'
    field = 'gt_sem_seg'
    path_key = 'seg_map_path'
    logits_key = 'seg_logits'
    target_dtype = torch.int64
    has_confidence = True
    scores = False

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        palette: Sequence[Sequence[int]] | np.ndarray | None = None,
        threshold: float | None = None,
        mirrored_pairs: Sequence[Sequence[int]] = (),
        classes: Sequence[str] | None = None,
        scores: bool = False,
    ) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f'num_classes={num_classes}: expected 1 to 255, a label file has 8 bits')
        if not 0 <= ignore_index <= 255:
            raise ValueError(f'ignore_index={ignore_index}: expected 0 to 255, a label file has 8 bits')
        if palette is not None and len(palette) != num_classes:
            raise ValueError(f'palette has {len(palette)} colours for {num_classes} classes')
        if threshold is not None and not (num_classes == 2 and 0 < threshold < 1):
            raise ValueError(f'threshold={threshold}: expected a number in (0, 1), and two classes, not {num_classes}')
        if scores and threshold is not None:
            raise ValueError(f'threshold={threshold} is of one logit, and scores=True says that there are no logits')
        if classes is not None and len(classes) != num_classes:
            raise ValueError(f'classes holds {len(classes)} names for {num_classes} classes')
        self.mirrored_pairs = tuple((int(a), int(b)) for a, b in mirrored_pairs)
        paired = [index for pair in self.mirrored_pairs for index in pair]
        if len(set(paired)) < len(paired) or not set(paired) <= set(range(num_classes)):
            raise ValueError(f'mirrored_pairs={self.mirrored_pairs}: expected pairs of different classes of 0 … K - 1')
        if paired and threshold is not None:
            raise ValueError(f'mirrored_pairs={self.mirrored_pairs}: one logit has no channels that change places')
        self.num_classes, self.threshold = num_classes, threshold
        if scores:  # else it stays out of `repr`, by which stored labels know their task
            self.scores = True
        self.channels = num_classes if threshold is None else 1
        self.ignore_index = self.invalid = ignore_index
        self.palette = _hues(num_classes) if palette is None else np.asarray(palette, np.uint8)
        self.classes = None if classes is None else tuple(classes)
        self._mirrored = np.arange(256)
        for a, b in self.mirrored_pairs:
            self._mirrored[[a, b]] = b, a

    def activate(self, logits: Tensor) -> Tensor:
        """Class probabilities (B, K, H, W). Of one logit: two, so that the likelier is mmseg's sigmoid > threshold.

        Scores are such as they are, divided by their sum where that is above 1; what is left of 1 is of no class.
        """
        if self.scores:
            self._check_channels(logits)
            return logits / logits.sum(dim=1, keepdim=True).clamp(min=1)
        return self.class_logits(logits).softmax(dim=1)

    def head_output(self, raw: Tensor) -> Tensor:
        """The class logits, or scores, as they are."""
        self._check_channels(raw)
        return raw

    def class_logits(self, output: Tensor) -> Tensor:
        """Logits (B, K, H, W), of one logit those of two classes: 0 and what it lies above the threshold.

        Of scores their logarithm: the softmax of it is a score's share in the sum.
        """
        self._check_channels(output)
        if self.scores:
            return output.float().clamp(min=TINY).log()
        if self.threshold is None:
            return output
        return torch.cat([torch.zeros_like(output), output - self._shift], dim=1)

    def mean_output(self, outputs: Sequence[Tensor]) -> Tensor:
        """Logits of the mean of the probabilities; not of the logits, of which a model that is too sure has larger."""
        if len(outputs) == 1:
            return outputs[0]
        if self.scores:
            return super().mean_output(outputs)
        log_mean = torch.stack([self.activate(output) for output in outputs]).mean(0).log()
        return log_mean if self.threshold is None else log_mean[:, 1:] - log_mean[:, :1] + self._shift

    def output_for(self, other: DenseTask, output: Tensor) -> Tensor:
        """See `DenseTask`; probabilities are scores, and the logarithms of scores are logits."""
        if self.scores == getattr(other, 'scores', False):
            return output
        return self.class_logits(output) if self.scores else self.activate(output)

    @property
    def _shift(self) -> float:
        """The logit at which one channel changes from class 0 to class 1."""
        return 0.0 if self.threshold is None else math.log(self.threshold / (1 - self.threshold))

    def predictions(self, output: Tensor) -> dict[str, Tensor]:
        """The logits (C, H, W) under `logits_key` and the classes (1, H, W); mmseg's names for mmseg's field."""
        return {self.logits_key: output, self.prediction: self.pseudo_label(output[None])[0][0]}

    def output_of(self, sample: Any) -> Tensor:
        """The logits (C, H, W)."""
        return sample.get(self.logits_key).data

    def predicted_map(self, sample: Any) -> np.ndarray:
        """The classes that were found."""
        return self.to_map(sample.get(self.prediction).data)

    def flip_output(self, output: Tensor) -> Tensor:
        """Mirrored output; the channels of mirrored pairs change places."""
        order = torch.from_numpy(self._mirrored[: self.channels]).to(output.device)
        return output.flip(-1)[:, order] if self.mirrored_pairs else output.flip(-1)

    def flip(self, array: np.ndarray) -> np.ndarray:
        """Mirrored map; the classes of mirrored pairs change places."""
        mirrored = super().flip(array)
        return self._mirrored[mirrored].astype(array.dtype) if self.mirrored_pairs else mirrored

    def to_map(self, target: Tensor) -> np.ndarray:
        """The map (H, W) uint8 of one target (1, H, W)."""
        return super().to_map(target).astype(np.uint8)

    def pseudo_label(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Most probable class (B, 1, H, W) int64 and its probability, from class logits; ignored where that is NaN."""
        confidence, target = self.activate(output.detach()).max(dim=1, keepdim=True)
        return target.masked_fill(confidence.isnan(), self.ignore_index), confidence

    def valid(self, target: Tensor) -> Tensor:
        """Where a target (B, 1, H, W) names a class."""
        valid = target != self.ignore_index
        # With an ignored index among the classes what data sets and padding have, 255, is another one.
        return valid & (target < self.num_classes) if self.ignore_index < self.num_classes else valid

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

    def legend(self, array: np.ndarray) -> list[tuple[str, tuple[int, int, int]]]:
        """Number, name and share of each value that occurs, the most frequent first."""
        self._check_range(array)
        counts, lines = np.bincount(array.ravel(), minlength=256), []
        for value in np.argsort(-counts, kind='stable')[: np.count_nonzero(counts)].tolist():
            ignored = value == self.ignore_index
            name = 'ignored' if ignored else self.classes[value] if self.classes else 'class'
            colour = (60, 60, 60) if ignored else tuple(self.palette[value].tolist())
            lines.append((f'{value} {name} {counts[value] / array.size:.1%}', colour))
        return lines

    def shares(self, array: np.ndarray) -> dict[str, float]:
        """Name (`class 3` where classes have none, `ignored`) → share of the map in (0, 1], the largest first."""
        self._check_range(array)
        counts = np.bincount(array.ravel(), minlength=256)
        order = np.argsort(-counts, kind='stable').tolist()
        return {self._name(value): float(counts[value] / array.size) for value in order if counts[value]}

    def _name(self, value: int) -> str:
        return 'ignored' if value == self.ignore_index else self.classes[value] if self.classes else f'class {value}'

    def summary(self, array: np.ndarray) -> str:
        """The shares of the most frequent classes."""
        shares = self.shares(array)
        named = [f'{name} {share * 100:.0f} %' for name, share in list(shares.items())[:SUMMED_UP]]
        return ', '.join(named) + (', …' if len(shares) > SUMMED_UP else '')

    def inspect(self, raw: np.ndarray, array: np.ndarray, info: Mapping[str, Any]) -> np.ndarray:
        """Pixels of each class, (K,)."""
        return np.bincount(array.ravel(), minlength=256)[: self.num_classes]

    def judge(
        self, facts: Sequence[np.ndarray], info: Mapping[str, Any], where: str
    ) -> tuple[list[str], list[Problem]]:
        """How many classes occur."""
        occurring = np.count_nonzero(np.sum(facts, axis=0))
        return [f'{self.name}: {occurring} of {self.num_classes} classes occur'], []

    def of_dataset(self, meta: Mapping[str, Any]) -> 'SemanticSegmentation':
        """With the `palette` and the `classes` of a data set of as many classes."""
        fitting = {key: list(meta.get(key) or ()) for key in ('palette', 'classes')}
        known = {key: value if len(value) == self.num_classes else None for key, value in fitting.items()}
        palette = self.palette if known['palette'] is None else known['palette']
        classes = self.classes if known['classes'] is None else known['classes']
        return SemanticSegmentation(
            self.num_classes, self.ignore_index, palette, self.threshold, self.mirrored_pairs, classes, self.scores
        )

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
                f'{self.name}: a label map holds {sorted(set(array[wrong].tolist()))[:5]}, expected classes '
                f'0 to {self.num_classes - 1} or {self.ignore_index} (ignored); check num_classes and the label files'
            )


def _hues(count: int) -> np.ndarray:
    """`count` RGB colours by golden-ratio steps around the colour circle, in three brightnesses."""
    step = np.arange(count)
    hsv = np.stack([(step * 0.618034 % 1) * 180, np.full(count, 170), 255 - 60 * (step % 3)], axis=-1)
    return cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0]
