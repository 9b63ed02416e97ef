"""Labels laid over their images, with a legend: whether a label belongs to its image, and its numbers to their classes.

H, W: image size, its own for each row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .contact_sheet import INK, LINE, PAPER, TEXT_SIZE, contact_sheet

LONGEST = 360  # pixels of a picture's longer side
LEGEND_WIDTH = 240
OPACITY = 0.55  # of the label


@dataclass(frozen=True)
class Overlaid:
    """An image and its label's colours, both uint8 RGB (H, W, 3); where `known` (H, W) is False the image darkens.

    `legend`: text and RGB colour of what occurs, the most frequent first.
    """

    image: np.ndarray
    colours: np.ndarray
    known: np.ndarray
    legend: Sequence[tuple[str, tuple[int, int, int]]]
    caption: str = ''


def overlay_panel(rows: Sequence[Overlaid], title: str = '') -> np.ndarray:
    """Rows of image | label over image | legend, as one uint8 RGB sheet."""
    pictures = []
    for row in rows:
        image, over = _fitted(row.image), _fitted(blend(row))
        pictures.append([image, over, _legend(row.legend, image.shape[0])])
    captions = [row.caption for row in rows]
    return contact_sheet(
        pictures, row_captions=captions, column_captions=['image', 'label over image', 'legend'], title=title, scale=1
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


def _legend(entries: Sequence[tuple[str, tuple[int, int, int]]], height: int) -> np.ndarray:
    """As many entries as fit into the height, at least four; then how many more there are."""
    lines = max(4, height // LINE)
    shown = entries if len(entries) <= lines else entries[: lines - 1]
    sheet = Image.new('RGB', (LEGEND_WIDTH, max(height, lines * LINE)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_SIZE)
    for line, (text, colour) in enumerate(shown):
        y = line * LINE
        draw.rectangle((0, y + 3, 12, y + 14), tuple(colour), outline=INK)
        draw.text((18, y), text, INK, font)
    if len(shown) < len(entries):
        draw.text((18, len(shown) * LINE), f'and {len(entries) - len(shown)} more', INK, font)
    return np.asarray(sheet)
