"""Cutting: the connected regions of class maps, and the labelled pixels of one of them. H, W: image; h, w: a region."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from mmdiff2in1.tasks import DenseTask, SemanticSegmentation

from .base import LabelledSample

NEARER = 0.9
"""Share of a region's distance: what lies beside it, nearer than that, is in front; the floor at its feet is not."""


@dataclass(frozen=True)
class Region:
    """A connected region (8 neighbours) of one class, by the place of its pixels in the sample of that name.

    `box`: top, left, height, width. `first`: row and column of its first pixel. `at_border`: whether it ends at the
    border of what is known of the image, so that nobody knows its shape. `edges`: the edges of the image itself that it
    ends at. `extent`: longer side of its box as a share of the image's.
    """

    sample: str
    label: int
    box: tuple[int, int, int, int]
    first: tuple[int, int]
    area: int
    at_border: bool
    edges: frozenset[str]
    extent: float

    @property
    def cuttable(self) -> bool:
        """True if it can be cut out: it is whole, or can be put at the same edge of another image."""
        opposite = {'left', 'right'} <= self.edges or {'top', 'bottom'} <= self.edges
        return not self.at_border or bool(self.edges) and not opposite

    @property
    def window(self) -> tuple[slice, slice]:
        """Its box as an index."""
        top, left, height, width = self.box
        return slice(top, top + height), slice(left, left + width)

    def mask(self, classes: np.ndarray) -> np.ndarray:
        """Its pixels within its box, bool (h, w)."""
        _, parts = cv2.connectedComponents((classes[self.window] == self.label).astype(np.uint8), connectivity=8)
        return parts == parts[self.first[0] - self.box[0], self.first[1] - self.box[1]]


@dataclass(frozen=True)
class Cut:
    """A region with what is known of its pixels.

    `image`: uint8 RGB (h, w, 3), and `labels`, by task, with the surroundings that lie in its box; `mask`: bool (h, w).
    `edges`: those of an image at which it must be put.
    """

    mask: np.ndarray
    image: np.ndarray
    labels: Mapping[str, np.ndarray]
    classes: np.ndarray
    edges: frozenset[str] = frozenset()


def regions_of(sample: LabelledSample, areas: SemanticSegmentation, least: int) -> list[Region]:
    """All regions of at least so many pixels."""
    known = sample.classes != areas.ignore_index
    if not known.any():
        return []
    rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    found = []
    for label in np.unique(sample.classes[known]).tolist():
        count, parts, stats, _ = cv2.connectedComponentsWithStats(
            (sample.classes == label).astype(np.uint8), connectivity=8
        )
        for part in range(1, count):
            x, y, width, height, area = stats[part].tolist()
            if area < least:
                continue
            found.append(
                Region(
                    sample=sample.name,
                    label=label,
                    box=(y, x, height, width),
                    first=(y, x + int(np.flatnonzero(parts[y, x : x + width] == part)[0])),
                    area=area,
                    at_border=x <= left or y <= top or x + width >= right or y + height >= bottom,
                    edges=_edges((y, x, height, width), sample.classes.shape),
                    extent=max(height / (bottom - top), width / (right - left)),
                )
            )
    return found


def _edges(box: tuple[int, int, int, int], size: tuple[int, ...]) -> frozenset[str]:
    top, left, height, width = box
    ends = dict(top=top == 0, left=left == 0, bottom=top + height == size[0], right=left + width == size[1])
    return frozenset(edge for edge, reached in ends.items() if reached)


def cut(sample: LabelledSample, region: Region) -> Cut:
    """The pixels and labels of a region."""
    labels = {name: array[region.window] for name, array in sample.labels.items()}
    mask = region.mask(sample.classes)
    return Cut(mask, sample.image[region.window], labels, sample.classes[region.window], region.edges)


def hidden_share(
    sample: LabelledSample, region: Region, tasks: Mapping[str, DenseTask], things: frozenset[int]
) -> float:
    """How much of a region's outline is where something stands in front of it, 0 … 1.

    Where a task tells distances, what is nearer does; else other things may, so their part is halved: of two things
    that touch, one is in front. NaN-free: an outline without known neighbours counts as free.
    """
    top, left, height, width = region.box
    rows = slice(max(0, top - 1), top + height + 1)
    columns = slice(max(0, left - 1), left + width + 1)
    mask = np.zeros(sample.classes.shape, np.uint8)
    mask[region.window] = region.mask(sample.classes)
    mask = mask[rows, columns]
    kernel = np.ones((3, 3), np.uint8)
    outline = (cv2.dilate(mask, kernel) > 0) & (mask == 0)
    distance = distance_of(sample.labels, tasks)
    if distance is not None:
        near = distance[rows, columns]
        own = cv2.dilate(np.where((mask > 0) & np.isfinite(near), near, 0).astype(np.float32), kernel)
        in_front = outline & (near < NEARER * own)
        return float(in_front.sum() / max(1, outline.sum()))
    others = np.isin(sample.classes[rows, columns], list(things - {region.label}))
    return float((outline & others).sum() / max(1, outline.sum()) / 2)


def distance_of(labels: Mapping[str, np.ndarray], tasks: Mapping[str, DenseTask]) -> np.ndarray | None:
    """How far everything is, (H, W), infinite where it is not known; None where no task tells it."""
    for name, array in labels.items():
        distance = tasks[name].distance(array)
        if distance is not None:
            return distance
    return None
