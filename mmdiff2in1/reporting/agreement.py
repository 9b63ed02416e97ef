"""How well maps agree with labels, over many images and, where there are classes, for each of them.

K classes; H, W image size.
"""

from dataclasses import dataclass, field

import numpy as np

from mmdiff2in1.tasks import DenseTask

from .errors import mean_error, pixel_errors


@dataclass
class Agreement:
    """Of one task: pixels (K, K + 1) by label and prediction, the last for none; or the mean errors of images."""

    task: DenseTask
    images: int = 0
    confusion: np.ndarray | None = None
    errors: list[float] = field(default_factory=list)

    def add(self, found: np.ndarray, label: np.ndarray) -> None:
        """One image: two maps (H, W, …)."""
        self.images += 1
        K = self.task.num_classes
        if not K:
            error = mean_error(pixel_errors(self.task, found, label))
            self.errors += [] if error is None else [error]
            return
        # Where nothing is found although there is a label, the pixel counts for the label alone.
        known = self.task.known(label)
        places = label[known].astype(int) * (K + 1) + np.minimum(found[known], K)
        pairs = np.bincount(places, minlength=K * (K + 1)).reshape(K, K + 1)
        self.confusion = pairs if self.confusion is None else self.confusion + pairs

    @property
    def overall(self) -> float | None:
        """Share in [0, 1] of the pixels that agree, or the mean error of an image; None where nothing is known."""
        if self.confusion is None:
            return float(np.mean(self.errors)) if self.errors else None
        return float(np.trace(self.confusion) / self.confusion.sum()) if self.confusion.any() else None

    def iou(self, k: int) -> float | None:
        """Intersection over union in [0, 1] of label and prediction of a class; None where it does not occur."""
        if self.confusion is None:
            return None
        union = self.confusion[k].sum() + self.confusion[:, k].sum() - self.confusion[k, k]
        return float(self.confusion[k, k] / union) if union else None
