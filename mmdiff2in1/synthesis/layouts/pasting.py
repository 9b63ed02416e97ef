"""Pasting: mirroring and enlarging what was cut, and composing image and labels. H, W: image; h, w: what is pasted.

The tasks say what mirroring, another size and another distance do to their maps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from mmdiff2in1.core.colours import changed_colours
from mmdiff2in1.tasks import DenseTask, SemanticSegmentation
from mmdiff2in1.tasks.base import nearest

from .objects import Cut, distance_of

STANDS_IN = 0.9
"""A surface hides what is pasted only where it is nearer than so much of its distance: what stands on a floor or hangs
on a wall does not sink in because it was measured in another room."""

MIRRORED = dict(left='right', right='left')


@dataclass(frozen=True)
class Canvas:
    """A sample that grows, (H, W) each.

    `feet`: the lowest row of the thing that a pixel belongs to, -1 elsewhere: without distances it tells which of two
    things is in front. `pasted`: which pixels were.
    """

    image: np.ndarray
    labels: Mapping[str, np.ndarray]
    classes: np.ndarray
    feet: np.ndarray
    pasted: np.ndarray


def mirrored(cut: Cut, tasks: Mapping[str, DenseTask], areas: SemanticSegmentation) -> Cut:
    """The mirror image of a cut."""
    labels = {name: tasks[name].flip(array) for name, array in cut.labels.items()}
    image = np.ascontiguousarray(cut.image[:, ::-1])
    edges = frozenset(MIRRORED.get(edge, edge) for edge in cut.edges)
    return Cut(np.ascontiguousarray(cut.mask[:, ::-1]), image, labels, areas.flip(cut.classes), edges)


def recoloured(cut: Cut, strengths: Mapping[str, float]) -> Cut:
    """A cut in other colours, see `changed_colours`; its labels stay."""
    bgr = changed_colours(np.ascontiguousarray(cut.image[..., ::-1]), strengths)
    return replace(cut, image=np.ascontiguousarray(bgr[..., ::-1]))


def enlarged(cut: Cut, zoom: float, tasks: Mapping[str, DenseTask], areas: SemanticSegmentation) -> Cut:
    """A cut as if it were seen `zoom` times larger: nearer by as much where a task knows distances.

    Colours and labels of its surroundings do not leak in.
    """
    if zoom == 1:
        return cut
    height, width = (max(1, round(side * zoom)) for side in cut.mask.shape)
    labels = {}
    for name, array in cut.labels.items():
        alone = array.copy()
        alone[~cut.mask] = tasks[name].invalid
        labels[name] = tasks[name].rescale(tasks[name].resize(alone, (height, width)), zoom)
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    mask = cut.mask.astype(np.float32)
    weight = cv2.resize(mask, (width, height), interpolation=how).reshape(height, width, 1)
    colours = cv2.resize(cut.image * mask[..., None], (width, height), interpolation=how)
    image = np.round(colours / np.maximum(weight, 1e-3)).clip(0, 255).astype(np.uint8)
    classes = areas.resize(cut.classes, (height, width))
    return Cut(nearest(cut.mask, (height, width)), image, labels, classes, cut.edges)


def visible(
    canvas: Canvas, cut: Cut, top: int, left: int, tasks: Mapping[str, DenseTask], things: frozenset[int]
) -> np.ndarray:
    """Which pixels of a cut are seen with its upper left corner there, bool (h, w): the nearer wins.

    Where distances are known they decide, see `STANDS_IN` for what is no thing. Else a thing that reaches further down
    in the picture is in front.
    """
    window = _window(cut.mask, top, left)
    behind = canvas.feet[window] > top + len(cut.mask) - 1
    own, there = distance_of(cut.labels, tasks), distance_of(canvas.labels, tasks)
    if own is not None and there is not None:
        near = there[window]
        thing = np.isin(canvas.classes[window], list(things))
        hides = np.where(thing, near < own, near < STANDS_IN * own)
        behind = np.where(np.isfinite(own) & np.isfinite(near), hides, behind)
    return cut.mask & ~behind


def paste(canvas: Canvas, cut: Cut, seen: np.ndarray, top: int, left: int, feather: float) -> Canvas:
    """The canvas with the pixels of a cut that are `seen` (h, w); no other pixel changes.

    Args:
        canvas: Stays as it is.
        cut: Mirrored and enlarged as it is to be.
        seen: Within its mask.
        top: Row of its upper left corner.
        left: Column.
        feather: Pixels at the edge of the mask over which the image fades in; 0: hard. Labels are always hard.
    """
    window = _window(cut.mask, top, left)
    labels = {}
    for name, array in canvas.labels.items():
        labels[name] = _set(array, window, seen, cut.labels[name])
    everywhere = _set(np.zeros_like(canvas.pasted), window, seen, seen)
    share = (faded(everywhere, feather)[window] * seen)[..., None]
    blended = np.round(canvas.image[window] * (1 - share) + cut.image * share).astype(np.uint8)
    rows = np.full(seen.shape, top + len(seen) - 1)
    return replace(
        canvas,
        image=_set(canvas.image, window, seen, blended),
        labels=labels,
        classes=_set(canvas.classes, window, seen, cut.classes),
        feet=_set(canvas.feet, window, seen, rows),
        pasted=_set(canvas.pasted, window, seen, np.ones_like(seen)),
    )


def faded(mask: np.ndarray, pixels: float) -> np.ndarray:
    """A mask, bool (H, W), as shares in [0, 1], float32, that fall over so many pixels at each side of its edge.

    At the border of the image there is no edge.
    """
    share = mask.astype(np.float32)
    return cv2.GaussianBlur(share, (0, 0), pixels / 2, borderType=cv2.BORDER_REPLICATE) if pixels > 0 else share


def feet_of(classes: np.ndarray, things: frozenset[int]) -> np.ndarray:
    """The lowest row of the thing that each pixel belongs to, -1 where there is none: int (H, W)."""
    feet = np.full(classes.shape, -1)
    for label in things & set(np.unique(classes).tolist()):
        count, parts, stats, _ = cv2.connectedComponentsWithStats((classes == label).astype(np.uint8), connectivity=8)
        lowest = stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] - 1
        feet = np.where(parts > 0, lowest[parts], feet)
    return feet


def _window(mask: np.ndarray, top: int, left: int) -> tuple[slice, slice]:
    return slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])


def _set(array: np.ndarray, window: tuple[slice, slice], where: np.ndarray, values: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[window][where] = values[where]
    return changed
