"""Labels laid over their images, with a legend: whether a label belongs to its image, and its numbers to their classes.

H, W: image size, its own for each row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .contact_sheet import Legend, contact_sheet, shortened

LONGEST = 360  # pixels of a picture's longer side
OPACITY = 0.55  # of the label


@dataclass(frozen=True)
class Overlaid:
    """An image and its label's colours, both uint8 RGB (H, W, 3); where `known` (H, W) is False the image darkens.

    `legend`: text and RGB colour of what occurs, the most frequent first.
    """

    image: np.ndarray
    colours: np.ndarray
    known: np.ndarray
    legend: Legend
    caption: str = ''


def overlay_panel(rows: Sequence[Overlaid], title: str = '') -> np.ndarray:
    """Rows of image | label over image, each with its legend, as one uint8 RGB sheet."""
    return contact_sheet(
        [[_fitted(row.image), _fitted(blend(row))] for row in rows],
        row_captions=[row.caption for row in rows],
        row_legends=[shortened(row.legend) for row in rows],
        column_captions=['image', 'label over image'],
        title=title,
        scale=1,
    )


def blend(row: Overlaid) -> np.ndarray:
    """Label colours over the image; unknown pixels at half brightness without a colour."""
    tinted = row.image * (1 - OPACITY) + row.colours * OPACITY
    return np.where(row.known[..., None], tinted, row.image * 0.4).round().astype(np.uint8)


def _fitted(picture: np.ndarray) -> np.ndarray:
    """Shrunk to LONGEST, or enlarged by a whole factor up to it, pixel by pixel."""
    longest = max(picture.shape[:2])
    if longest <= LONGEST:
        factor = LONGEST // longest
        return picture.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (max(1, round(side * LONGEST / longest)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
