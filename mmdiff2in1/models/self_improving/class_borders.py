"""Borders between classes, as the edge map that mmseg's PIDNet learns beside the classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdiff2in1.tasks import DenseTask

FIELD = 'gt_edge_map'
WIDTH = 'edge_width'
"""Key of the width of the borders in the metainfo of a sample; mmseg's `GenerateEdge` has 3 where it is not set."""
UNKNOWN = 255
"""Value of pixels that are neither border nor none; mmseg pads with it, and its `BoundaryLoss` leaves it out."""


def class_borders(target: Tensor, task: DenseTask, width: int = 3) -> Tensor:
    """The edge map (1, H, W), int64: 1 on a border, 0 elsewhere, 255 where no class is known.

    Where all classes are known it is what mmseg's `GenerateEdge` makes of the same map.

    Args:
        target: Classes (1, H, W).
        task: Which of them are known.
        width: Of the borders in pixels.
    """
    valid = task.valid(target[None])[0]
    edge = torch.zeros_like(target, dtype=torch.float32)
    height, columns = target.shape[-2:]
    whole, top, bottom = slice(None), slice(0, height - 1), slice(1, height)
    left, right = slice(0, columns - 1), slice(1, columns)
    # (the pixel that is marked, the neighbour that differs)
    for here, there in (
        ((bottom, whole), (top, whole)),
        ((whole, left), (whole, right)),
        ((top, left), (bottom, right)),
        ((top, right), (bottom, left)),
    ):
        differs = (target[:, *here] != target[:, *there]) & valid[:, *here] & valid[:, *there]
        edge[:, *here] = edge[:, *here].masked_fill(differs, 1)
    before, after = width // 2, width - 1 - width // 2
    edge = F.max_pool2d(F.pad(edge, (before, after, before, after))[None], width, stride=1)[0]
    return edge.long().masked_fill(~valid, UNKNOWN)
