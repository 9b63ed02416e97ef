"""The cross-entropy of a segmentor under given labels: pixel by pixel, and as a mean by class on real images.

H, W: image size; K classes. A label map: uint8 (H, W), a task's own encoding.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor

from mmdiff2in1.core.digest import add_tensors
from mmdiff2in1.core.images import read_image
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.inference.perception import array_pipeline, logits_of
from mmdiff2in1.synthesis import LabelMaps
from mmdiff2in1.tasks import SemanticSegmentation

TASK = SemanticSegmentation.name


class LossMeter:
    """How much a segmentor disagrees with labels.

    Args:
        inferencer: Of the segmentor, which predicts classes and nothing else.
        batch_size: Neighbours of one size that are predicted together.

    Raises:
        ValueError: It predicts something else.
    """

    def __init__(self, inferencer: Diff2in1Inferencer, batch_size: int = 8) -> None:
        task = inferencer.tasks.only
        if not isinstance(task, SemanticSegmentation):
            raise ValueError(f'this model predicts {task.name}; expected one of {TASK}, whose loss is judged by class')
        self.task, self.batch_size = task, batch_size
        self._segmentor, self._pipeline = inferencer.segmentor, array_pipeline(inferencer.cfg)

    def losses(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        """For each image (H, W, 3) uint8 RGB and its label (H, W): the loss of each pixel, float64 (H, W), see
        `pixel_losses`."""
        for _, neighbours in itertools.groupby(pairs, lambda pair: pair[0].shape):
            while batch := list(itertools.islice(neighbours, self.batch_size)):
                outputs = logits_of(self._segmentor, self._pipeline, [image for image, _ in batch])
                for output, (_, label) in zip(outputs, batch, strict=True):
                    yield pixel_losses(self.task, output, label)

    def digest(self) -> str:
        """SHA-256 over the segmentor's weights."""
        digest = hashlib.sha256()
        add_tensors(digest, self._segmentor.state_dict())
        return digest.hexdigest()


def pixel_losses(task: SemanticSegmentation, output: Tensor, label: np.ndarray) -> np.ndarray:
    """-log p(label), float64 (H, W), of what a model puts out (1, C, H, W); 0 where the label is ignored.

    Raises:
        ValueError: Of another size than the label.
    """
    if tuple(output.shape[-2:]) != label.shape:
        raise ValueError(f'the label is {label.shape}, expected the size of its image, {tuple(output.shape[-2:])}')
    probabilities = task.activate(output.detach().double())[0].cpu().numpy()
    known = label != task.ignore_index
    rows, columns = np.indices(label.shape)
    found = probabilities[np.where(known, label, 0), rows, columns]
    return np.where(known, -np.log(np.maximum(found, np.finfo(np.float64).tiny)), 0.0)


class ClassMeans:
    """Mean loss by class over all pixels of a set."""

    def __init__(self, task: SemanticSegmentation) -> None:
        self.task = task
        self._sums, self._counts = np.zeros(256), np.zeros(256, np.int64)

    def add(self, label: np.ndarray, losses: np.ndarray) -> None:
        """One image's label (H, W) and losses (H, W)."""
        self._sums += np.bincount(label.ravel(), losses.ravel(), 256)
        self._counts += np.bincount(label.ravel(), minlength=256)

    @property
    def values(self) -> np.ndarray:
        """(K,) float64; 0 for a class that no image shows: nothing can be said of it."""
        means = self._sums / np.maximum(self._counts, 1)
        return means[: self.task.num_classes]


def real_pairs(maps: LabelMaps) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Image and label of each labelled source, in the order of their names."""
    for name in maps.names:
        yield read_image(maps.path(name)), maps.map(name)


def mean_by_mask(label: np.ndarray, values: np.ndarray, ignore_index: int) -> float:
    """Mean of per-pixel `values` (H, W) where the label (H, W) names a class; 0 where it names none."""
    known = label != ignore_index
    return float(values[known].mean()) if known.any() else 0.0
