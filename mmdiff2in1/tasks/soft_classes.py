"""Class probabilities of a pixel in few numbers: its k likeliest classes with 16 bits each.

K classes; H, W image size. A *top-k map* is uint16 (2k, H, W): k probabilities in 65535ths, the largest first, then the
k class indices that they belong to. In a file its planes stand one below the other, (2k · H, W).
"""

import numpy as np
import torch
from torch import Tensor

FULL = 65535
NOWHERE = 255
"""Index of the first plane of indices where nothing is known."""
FIELD = 'gt_seg_topk'
"""Key of a top-k map in the results of a pipeline, there (H, W, 2k), and in a `SegDataSample`, (2k, H, W)."""
TOPK_OF = 'gt_sem_seg'
"""Field of the task that a top-k map in a sample is of; other tasks of classes have none."""


def to_topk(probabilities: Tensor, k: int = 4) -> np.ndarray:
    """The top-k map of probabilities (K, H, W), which may be 0 for all classes where nothing is known.

    The probability of one of the k classes is off by at most 1 / 131070; what is left of 1 is told apart no more.

    Raises:
        ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f'k={k}: expected 1 or more classes per pixel')
    found, classes = probabilities.topk(min(k, len(probabilities)), dim=0)
    planes = (found.double() * FULL).round()
    classes = classes.masked_fill((found <= 0).all(0), NOWHERE)
    return torch.cat([planes, classes.double()]).cpu().numpy().astype(np.uint16)


def from_topk(topk: Tensor, num_classes: int) -> Tensor:
    """Probabilities (K, H, W), float32: those of the map, and what is left of 1 in equal shares for the other classes.

    Args:
        topk: (2k, H, W), any integers.
        num_classes: K.
    """
    shares, classes = topk.chunk(2)
    known = (classes < num_classes).all(0)
    shares = shares.float() / FULL
    if len(shares) == num_classes:  # no class is left: rounding aside they sum to 1
        shares = shares / shares.sum(0).clamp(min=1e-6)
    rest = (1 - shares.sum(0)).clamp(min=0) / max(1, num_classes - len(shares))
    spread = rest.expand(num_classes, *rest.shape)
    filled = spread.scatter(0, classes.long().where(known, 0), shares)
    return filled.where(known, 0)


def as_file(topk: np.ndarray) -> np.ndarray:
    """Array that is written to a file: (2k · H, W)."""
    return topk.reshape(-1, topk.shape[-1])


def from_file(array: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """The top-k map in a label file of an image of (H, W) = `size`; None: the file holds something else."""
    height, width = size
    planes = array.shape[0] // height
    fits = array.dtype == np.uint16 and array.ndim == 2 and array.shape == (planes * height, width)
    return array.reshape(planes, height, width) if fits and planes and planes % 2 == 0 else None
