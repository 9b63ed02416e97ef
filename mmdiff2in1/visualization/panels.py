"""Ready-made sheets: how well a model sees, and what the synthetic data looks like.

H, W image size. Images are uint8 RGB (H, W, 3), maps as their task has them; every function returns a sheet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmdiff2in1.tasks import DenseTask

from .contact_sheet import Legend, contact_sheet, shortened


@dataclass(frozen=True)
class Perceived:
    """An image, its ground truth (None: unknown) and one prediction per model, all (H, W, …)."""

    image: np.ndarray
    truth: np.ndarray | None
    predictions: Sequence[np.ndarray]
    caption: str = ''


@dataclass(frozen=True)
class Created:
    """A real image, the synthetic one made from it if from any, and the label of the latter, all (H, W, …)."""

    real: np.ndarray | None
    synthetic: np.ndarray
    label: np.ndarray | None
    caption: str = ''


def prediction_panel(
    rows: Sequence[Perceived],
    tasks: DenseTask | Sequence[DenseTask],
    models: Sequence[str] = ('prediction',),
    title: str = '',
) -> np.ndarray:
    """Rows of image | ground truth | one prediction for each name in `models`.

    One task for all rows: the legend, of the ground truth where it is known, stands at the end. A task for each row:
    each row has its own, and its name in its caption.

    Raises ValueError if a row does not hold one prediction per model, or for another number of tasks.
    """
    each = [tasks] * len(rows) if isinstance(tasks, DenseTask) else list(tasks)
    pictures = []
    for row, task in zip(rows, each, strict=True):
        if len(row.predictions) != len(models):
            raise ValueError(f'{len(row.predictions)} predictions for {len(models)} models ({", ".join(models)})')
        truth = None if row.truth is None else task.colours(row.truth)
        pictures.append([row.image, truth, *map(task.colours, row.predictions)])
    shown = [row.truth if row.truth is not None else row.predictions[-1] for row in rows]
    captions = [row.caption for row in rows]
    if isinstance(tasks, DenseTask):
        legends = _at_the_end(tasks, shown)
    else:
        legends = [_legend(task, [array]) for task, array in zip(each, shown, strict=True)]
        captions = [
            ' · '.join(filter(None, (task.name.replace('_', ' '), text)))
            for task, text in zip(each, captions, strict=True)
        ]
    return _sheet(pictures, captions, legends, ['image', 'ground truth', *models], title)


def creation_panel(
    rows: Sequence[Created],
    task: DenseTask,
    title: str = '',
    columns: Sequence[str] = ('real', 'synthetic', 'pseudo label'),
) -> np.ndarray:
    """Rows of real | synthetic | label, and the legend of the labels; where nothing was made from a real image, no such
    column.
    """
    labels = [row.label for row in rows]
    pictures = [
        [row.real, row.synthetic, None if label is None else task.colours(label)]
        for row, label in zip(rows, labels, strict=True)
    ]
    first = int(all(row.real is None for row in rows))
    legends = _at_the_end(task, labels)
    pictures = [row[first:] for row in pictures]
    return _sheet(pictures, [row.caption for row in rows], legends, list(columns)[first:], title)


def _at_the_end(task: DenseTask, maps: Sequence[np.ndarray | None]) -> list[Legend]:
    """Under the last row the legend of all maps."""
    return [*[()] * (len(maps) - 1), _legend(task, [each for each in maps if each is not None])]


def _legend(task: DenseTask, maps: Sequence[np.ndarray]) -> Legend:
    if not maps:
        return ()
    # In one row, as maps may differ in size.
    return shortened(task.legend(np.concatenate([each.reshape(1, -1, *each.shape[2:]) for each in maps], axis=1)))


def _sheet(pictures: list, captions: list[str], legends: list[Legend], columns: list[str], title: str) -> np.ndarray:
    return contact_sheet(
        pictures,
        row_captions=captions if any(captions) else None,
        row_legends=legends,
        column_captions=columns,
        title=title,
    )
