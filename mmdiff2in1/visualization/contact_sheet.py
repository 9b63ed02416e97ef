"""A sheet of pictures in rows and columns with captions and legends.

H, W size of a picture; all pictures and the sheet are uint8 RGB (H, W, 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN = 8
TEXT_SIZE = 12
LINE = 17
PAPER = (255, 255, 255)
INK = (20, 20, 20)
EMPTY = (225, 225, 225)
SWATCH = 11
LONGEST = 16
"""Entries of a legend; the classes of ADE20K would fill the sheet."""

# A text and the colour of which it says what it stands for.
Legend = Sequence[tuple[str, tuple[int, int, int]]]

# Pictures whose longer side is below this are enlarged by a whole factor, pixel by pixel: no colour is invented.
SMALLEST_CELL = 128


@dataclass(frozen=True)
class Layout:
    """Where things stand on a sheet, in pixels from the upper left corner.

    `scale` is the whole factor by which pictures are enlarged, `cell` the (H, W) kept free for each, `header` the
    height of title and column captions, `footers` the height of caption and legend under each row.
    """

    scale: int
    cell: tuple[int, int]
    columns: int
    header: int
    footers: tuple[int, ...]

    def origin(self, row: int, column: int) -> tuple[int, int]:
        """(y, x) of the upper left pixel of a picture."""
        y = MARGIN + self.header + row * (self.cell[0] + MARGIN) + sum(self.footers[:row])
        return y, MARGIN + column * (self.cell[1] + MARGIN)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the sheet."""
        height, width = self.origin(len(self.footers), self.columns)
        return height, width


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    row_captions: Sequence[str] | None = None,
    row_legends: Sequence[Legend] | None = None,
    column_captions: Sequence[str] | None = None,
    title: str = '',
    scale: int | None = None,
) -> np.ndarray:
    """Draw `rows` of pictures; None leaves a grey cell. Pictures may differ in size and stand at the upper left.

    A row caption stands under its row, wrapped to the width of the sheet, its legend under that; column captions stand
    over the first row, wrapped to the width of a picture.
    `scale` is a whole enlargement (nearest neighbour); None brings small pictures to at least 128 pixels.

    Raises ValueError for no pictures, other arrays than uint8 (H, W, 3), rows of unequal length, or numbers of captions
    or legends that do not fit.
    """
    _check(rows, row_captions, row_legends, column_captions)
    layout = sheet_layout(
        rows,
        row_captions=row_captions,
        row_legends=row_legends,
        column_captions=column_captions,
        title=title,
        scale=scale,
    )
    height, width = layout.size
    sheet = Image.new('RGB', (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = _font()
    for line, text in enumerate(_wrap(title, width)):
        draw.text((MARGIN, MARGIN + line * LINE), text, INK, font)
    for column, text in enumerate(column_captions or ()):
        y, x = layout.origin(0, column)
        lines = _over_column(text, layout.cell[1])
        for number, part in enumerate(lines):
            draw.text((x, y + (number - len(lines)) * LINE), part, INK, font)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            y, x = layout.origin(row, column)
            if picture is None:
                draw.rectangle((x, y, x + layout.cell[1] - 1, y + layout.cell[0] - 1), EMPTY)
            else:
                enlarged = picture.repeat(layout.scale, axis=0).repeat(layout.scale, axis=1)
                sheet.paste(Image.fromarray(enlarged), (x, y))
        y, x = layout.origin(row, 0)
        y += layout.cell[0] + 1
        for text in _wrap(row_captions[row], width) if row_captions else ():
            draw.text((x, y), text, INK, font)
            y += LINE
        for entries in _flow(row_legends[row], width) if row_legends else ():
            for indent, text, colour in entries:
                draw.rectangle((x + indent, y + 3, x + indent + SWATCH, y + 3 + SWATCH), colour, INK)
                draw.text((x + indent + SWATCH + 4, y), text, INK, font)
            y += LINE
    return np.asarray(sheet)


def sheet_layout(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    row_captions: Sequence[str] | None = None,
    row_legends: Sequence[Legend] | None = None,
    column_captions: Sequence[str] | None = None,
    title: str = '',
    scale: int | None = None,
) -> Layout:
    """The layout that `contact_sheet` uses for the same arguments."""
    pictures = [picture for row in rows for picture in row if picture is not None]
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    scale = scale or max(1, ceil(SMALLEST_CELL / max(height, width)))
    cell = (height * scale, width * scale)
    columns = len(rows[0])
    sheet_width = MARGIN + columns * (cell[1] + MARGIN)
    over_columns = max((len(_over_column(text, cell[1])) for text in column_captions or ()), default=0)
    header = LINE * (len(_wrap(title, sheet_width)) + over_columns)
    captions, legends = row_captions or [''] * len(rows), row_legends or [()] * len(rows)
    footers = tuple(
        LINE * (len(_wrap(caption, sheet_width)) + len(_flow(legend, sheet_width)))
        for caption, legend in zip(captions, legends, strict=True)
    )
    return Layout(scale, cell, columns, header, footers)


def shortened(legend: Legend) -> Legend:
    """The first entries, and how many more there are."""
    left_out = len(legend) - LONGEST
    return legend if left_out <= 0 else [*legend[:LONGEST], (f'and {left_out} more', PAPER)]


def side_by_side(sheets: list[np.ndarray]) -> np.ndarray:
    """Sheets (H, W, 3) on one white picture."""
    height = max(len(sheet) for sheet in sheets)
    padded = [np.pad(s, ((0, height - len(s)), (0, 24), (0, 0)), constant_values=255) for s in sheets]
    return np.concatenate(padded, 1)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: θ, ×, and the letters of most names that classes have; Pillow's own has
    Latin ones alone."""
    home = find_spec('matplotlib')  # found and not imported, which takes longer than to draw
    assert home is not None and home.origin is not None
    return ImageFont.truetype(Path(home.origin).parent / 'mpl-data' / 'fonts' / 'ttf' / 'DejaVuSans.ttf', TEXT_SIZE)


def _check(rows, row_captions, row_legends, column_captions) -> None:
    if not rows or not any(picture is not None for row in rows for picture in row):
        raise ValueError('a contact sheet needs at least one picture')
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise ValueError(f'rows hold {sorted(lengths)} pictures, expected equally many; fill up with None')
    for what, found, count in (
        ('row captions', row_captions, len(rows)),
        ('row legends', row_legends, len(rows)),
        ('column captions', column_captions, len(rows[0])),
    ):
        if found is not None and len(found) != count:
            raise ValueError(f'{len(found)} {what} for {count} {what.split()[0]}s')
    for row in rows:
        for picture in row:
            if picture is not None and (picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3):
                raise ValueError(f'picture is {picture.dtype} {picture.shape}, expected uint8 (H, W, 3)')


def _wrap(text: str, width: int) -> list[str]:
    """Break `text` between words into lines of at most `width` pixels less the margins."""
    font = _font()
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f'{lines[-1]} {word}') <= width - 2 * MARGIN:
            lines[-1] += f' {word}'
        else:
            lines.append(_shorten(word, width - 2 * MARGIN))
    return lines


def _over_column(text: str, width: int) -> list[str]:
    """A column caption in lines, one at least."""
    return _wrap(text, width + 2 * MARGIN) or ['']


def _flow(legend: Legend, width: int) -> list[list[tuple[int, str, tuple[int, int, int]]]]:
    """The entries in lines of at most `width` pixels less the margins: (x from the left margin, text, colour)."""
    font, free = _font(), width - 2 * MARGIN
    lines: list[list[tuple[int, str, tuple[int, int, int]]]] = []
    x = 0
    for text, colour in legend:
        text = _shorten(text, free - SWATCH - 4)
        needed = SWATCH + 4 + ceil(font.getlength(text))
        if not lines or x + needed > free:
            lines.append([])
            x = 0
        lines[-1].append((x, text, colour))
        x += needed + 12
    return lines


def _shorten(text: str, width: int) -> str:
    """One line of at most `width` pixels, cut with an ellipsis."""
    font = _font()
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + '…') > width:
        text = text[:-1]
    return text + '…'
