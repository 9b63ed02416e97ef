"""Pictures inside of a page: data addresses, what their colours mean, values as heat.

H, W image size. Pictures are uint8 RGB (H, W, 3), maps as their task has them.
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from mmdiff2in1.core.images import resize_image
from mmdiff2in1.tasks import DenseTask
from mmdiff2in1.tasks.base import nearest

LONGEST = 400
"""Pixels of a picture's longer side in the page."""
SMALL = 200
"""A shorter picture is enlarged by the browser pixel by pixel."""
MOST_CLASSES = 20
"""In a legend: those of ADE20K would fill the page."""
UNKNOWN = (0, 0, 0)


@dataclass(frozen=True)
class Swatch:
    """A colour and its meaning, in a legend; `colour` as CSS writes it, '' for a text alone."""

    text: str
    colour: str


@dataclass(frozen=True)
class Picture:
    """`uri` holds the whole picture; `height`, `width` its pixels there."""

    title: str
    uri: str
    alt: str
    height: int
    width: int

    @property
    def small(self) -> bool:
        """True if it is enlarged."""
        return max(self.height, self.width) < SMALL


@dataclass(frozen=True)
class Row:
    """Pictures of one image beside each other; `text` lines about it, `legends` of what the colours mean."""

    title: str
    text: Sequence[str]
    pictures: Sequence[Picture]
    legends: Sequence[Sequence[Swatch]]


def photo(image: np.ndarray, title: str, alt: str) -> Picture:
    """An image, as WebP of high quality."""
    height, width = _fitting(image.shape[:2])
    return _encoded(resize_image(image, (height, width)), title, alt, dict(format='WEBP', quality=90))


def flat(colours: np.ndarray, title: str, alt: str) -> Picture:
    """The colours of a map, as PNG: shrunk without mixing them."""
    return _encoded(nearest(colours, _fitting(colours.shape[:2])), title, alt, dict(format='PNG', optimize=True))


def map_picture(task: DenseTask, array: np.ndarray, title: str, of: str) -> Picture:
    """A map in the colours of its task; its alternative text says what is in it."""
    seen = ', '.join(text for text, _ in task.legend(array)[:4])
    return flat(task.colours(array), title, f'{title} of {of}: {seen}')


def legend(task: DenseTask, maps: Sequence[np.ndarray]) -> list[Swatch]:
    """Legend of maps: the classes that occur, the most frequent first, or values."""
    together = np.concatenate([each.reshape(1, -1, *each.shape[2:]) for each in maps], axis=1)
    if task.num_classes:
        counts = np.bincount(together[task.known(together)], minlength=task.num_classes)
        found = [class_swatch(task, int(k)) for k in np.argsort(-counts, kind='stable') if counts[k]]
        found += [] if task.known(together).all() else [Swatch('nothing known', css(UNKNOWN))]
    else:
        # Shares are of one map, and these may be several; the first entry is the share that is known.
        entries = [entry for entry in task.legend(together) if not entry[0].startswith(f'{task.name}:')]
        found = [Swatch(re.sub(r' [\d.]+%$', '', text), css(colour)) for text, colour in entries]
        found = found or [Swatch('its task has no names for colours', '')]
    left_out = len(found) - MOST_CLASSES
    found = found if left_out <= 0 else [*found[:MOST_CLASSES], Swatch(f'and {left_out} more', '')]
    return [Swatch(f'{task.name.replace("_", " ")}:', ''), *found]


def class_swatch(task: DenseTask, k: int) -> Swatch:
    """Name and colour of a class."""
    names = getattr(task, 'classes', None)
    colour = task.colours(np.full((1, 1), k, np.uint8))[0, 0]
    return Swatch(names[k] if names else f'class {k}', css(colour))


def heat(values: np.ndarray, most: float) -> np.ndarray:
    """0 … `most` of (H, W) from dark blue to yellow; black where not a number."""
    level = np.round(255 * np.clip(np.nan_to_num(values) / most, 0, 1)).astype(np.uint8)
    picture = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return np.where(np.isfinite(values)[..., None], picture, np.array(UNKNOWN, np.uint8))


def heat_legend(what: str, most: float, unit: str) -> list[Swatch]:
    """Five values of `heat`, what they are of in front."""
    values = np.linspace(0, most, 5)
    colours = heat(values[None].astype(np.float32), most)[0]
    pairs = zip(values, colours, strict=True)
    return [Swatch(f'{what}:', ''), *(Swatch(f'{value:.3g} {unit}'.strip(), css(colour)) for value, colour in pairs)]


def css(colour: Sequence[int] | np.ndarray) -> str:
    """RGB in 0 … 255 as CSS writes it."""
    return '#{:02x}{:02x}{:02x}'.format(*map(int, colour))


def _fitting(size: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, LONGEST / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _encoded(picture: np.ndarray, title: str, alt: str, how: dict) -> Picture:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, **how)
    data = base64.b64encode(stream.getvalue()).decode()
    return Picture(title, f'data:image/{how["format"].lower()};base64,{data}', alt, *picture.shape[:2])
