"""Ready-made sheets: how well a model sees, and what the synthetic data looks like.

H, W image size; K classes. Images and coloured maps are uint8 RGB (H, W, 3); every function returns such a sheet.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .contact_sheet import contact_sheet

# A map of any kind → its uint8 RGB picture, e.g. `DenseTask.colours`.
Colours = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Perceived:
    """An image, its ground truth (None: unknown) and one prediction per model, all (H, W, …)."""

    image: np.ndarray
    truth: np.ndarray | None
    predictions: Sequence[np.ndarray]
    caption: str = ''


@dataclass(frozen=True)
class Created:
    """A real image, the synthetic one made from it, and θ_C's pseudo label of the latter, all (H, W, …)."""

    real: np.ndarray
    synthetic: np.ndarray
    pseudo_label: np.ndarray | None
    caption: str = ''


def prediction_panel(
    rows: Sequence[Perceived], colours: Colours, models: Sequence[str] = ('prediction',), title: str = ''
) -> np.ndarray:
    """Rows of image | ground truth | one prediction for each name in `models`.

    Raises ValueError if a row does not hold one prediction per model.
    """
    pictures = []
    for row in rows:
        if len(row.predictions) != len(models):
            raise ValueError(f'{len(row.predictions)} predictions for {len(models)} models ({", ".join(models)})')
        truth = None if row.truth is None else colours(row.truth)
        pictures.append([row.image, truth, *map(colours, row.predictions)])
    return _sheet(pictures, [row.caption for row in rows], ['image', 'ground truth', *models], title)


def creation_panel(rows: Sequence[Created], colours: Colours, title: str = '') -> np.ndarray:
    """Rows of real | synthetic | pseudo label."""
    pictures = [
        [row.real, row.synthetic, None if row.pseudo_label is None else colours(row.pseudo_label)] for row in rows
    ]
    return _sheet(pictures, [row.caption for row in rows], ['real', 'synthetic', 'pseudo label'], title)


def _sheet(pictures: list, captions: list[str], columns: list[str], title: str) -> np.ndarray:
    return contact_sheet(
        pictures, row_captions=captions if any(captions) else None, column_captions=columns, title=title
    )
