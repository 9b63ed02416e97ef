"""Placing: where in a picture a thing of another picture can stand or hang. H, W: image size; N places that are tried.

A place is the row and column of the foot, see `outline.py`. The zoom follows: from the distance of what is under the
foot where distances are known, else from the row, as things of that class grow towards the viewer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmdiff2in1.tasks import DenseTask

from .context import Context
from .draws import Draws
from .objects import Cut, distance_of
from .outline import FOOT, Outline
from .pasting import Canvas

TRIED = 80
ROW_JITTER, ZOOM_JITTER = 0.08, 0.1


@dataclass(frozen=True)
class Place:
    """Where a thing goes: row and column of its foot, and how much larger it becomes."""

    row: float
    column: float
    zoom: float


def find_places(
    canvas: Canvas,
    cut: Cut,
    label: int,
    home: tuple[float, float],
    context: Context,
    zooms: tuple[float, float],
    tasks: Mapping[str, DenseTask],
    draws: Draws,
) -> list[Place]:
    """Places whose neighbours, row and size are those of real things of the class, in the order they were drawn.

    Of each two, the one that is nearer to the column it comes from stands first: there it is seen from the same side.

    Args:
        canvas: Where it is to go.
        cut: Mirrored, not yet enlarged.
        label: Its class.
        home: Row and column of its foot where it comes from (mirrored, if it is), shares of that image's height and
            width.
        context: What is known of the classes.
        zooms: The smallest and the largest enlargement.
        tasks: Of the labels.
        draws: Where random numbers come from.
    """
    height, width = canvas.classes.shape
    shares = draws.shares(TRIED, 4)
    known = context.rows(label)
    rows = known[(shares[:, 0] * len(known)).astype(int)] + ROW_JITTER * (2 * shares[:, 1] - 1)
    rows = np.round(rows * height - 1).clip(0, height - 1)
    if 'bottom' in cut.edges:
        rows[:] = height - 1
    columns = shares[:, 2] * (width - 1)
    if cut.edges & {'left', 'right'}:
        columns[:] = home[1] * (width - 1)
    near = _distance_under(canvas, rows, columns, tasks)
    own = _distance_of_foot(cut, tasks)
    if near is not None and own is not None:
        zoom = own / near
    else:
        zoom = context.zoom(label, home[0], (rows + 1) / height) * np.exp(ZOOM_JITTER * (2 * shares[:, 3] - 1))
    high, wide = cut.mask.shape
    rows = high * zoom - 1 if 'top' in cut.edges else rows
    columns = (wide * zoom - 1) / 2 if 'left' in cut.edges else columns
    columns = width - (wide * zoom + 1) / 2 if 'right' in cut.edges else columns
    top, left = rows + 1 - high * zoom, columns - (wide * zoom - 1) / 2
    fits = (zoom >= zooms[0]) & (zoom <= zooms[1]) & (rows < height)
    fits &= (top > -0.5) & (left > -0.5) & (left + wide * zoom < width + 0.5)
    rows, columns, zoom = rows[fits], columns[fits], zoom[fits]
    if not len(rows):
        return []
    num_classes = context.num_classes
    contacts = Outline.of(cut.mask).contacts(canvas.classes, np.stack([rows, columns], 1), zoom, num_classes)
    sizes = np.sqrt(cut.mask.sum()) * zoom / height
    apart = context.difference(label, (rows + 1) / height, sizes, contacts)
    good = np.flatnonzero(apart <= context.limits[label])
    away = np.abs(columns[good] / width - home[1])
    order = sorted(range(len(good)), key=lambda i: (i // 2, away[i]))
    return [Place(float(rows[i]), float(columns[i]), float(zoom[i])) for i in good[order]]


def corner(cut: Cut, place: Place, size: tuple[int, ...]) -> tuple[int, int] | None:
    """Row and column of the upper left pixel of an enlarged cut whose foot is there; None: not within (H, W)."""
    height, width = cut.mask.shape
    top, left = round(place.row) - height + 1, round(place.column - (width - 1) / 2)
    top = 0 if 'top' in cut.edges else size[0] - height if 'bottom' in cut.edges else top
    left = 0 if 'left' in cut.edges else size[1] - width if 'right' in cut.edges else left
    return (top, left) if 0 <= top <= size[0] - height and 0 <= left <= size[1] - width else None


def _distance_under(
    canvas: Canvas, rows: np.ndarray, columns: np.ndarray, tasks: Mapping[str, DenseTask]
) -> np.ndarray | None:
    """Of the pixel under each foot (N,), infinite where it is not known; None where nothing of the image is known."""
    distance = distance_of(canvas.labels, tasks)
    if distance is None or not np.isfinite(distance).any():
        return None
    height, width = distance.shape
    return distance[(rows.astype(int) + 1).clip(0, height - 1), np.round(columns).astype(int).clip(0, width - 1)]


def _distance_of_foot(cut: Cut, tasks: Mapping[str, DenseTask]) -> float | None:
    """Median of its known distances in the lowest part of a cut."""
    distance = distance_of(cut.labels, tasks)
    if distance is None:
        return None
    foot = cut.mask.copy()
    foot[: int((1 - FOOT) * len(foot))] = False
    known = distance[foot & np.isfinite(distance)]
    return float(np.median(known)) if len(known) else None
