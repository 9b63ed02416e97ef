"""Forms that a line of a list may have: published lists have names or paths, in one column or several."""

from collections.abc import Iterator
from dataclasses import dataclass

from mmdiff2in1.core.folders import without_image_suffix


@dataclass(frozen=True)
class Reading:
    """One way to understand a line.

    `fields`: its columns, with `/` between folders. `has_suffix`: the first is a path with the suffix of an image;
    otherwise there is one field, a name without it.
    """

    fields: tuple[str, ...]
    has_suffix: bool


def readings(text: str) -> Iterator[Reading]:
    """The ways to understand a line, the likeliest first; a comment behind the entry is taken off last.

    | line | found in |
    | --- | --- |
    | `2007_000032`, `scene/0001` | VOC, mmseg |
    | `0001.png` | folders listed by `ls` |
    | `/bathroom/rgb_1.jpg /bathroom/sync_depth_1.png 518.8` | NYUv2, VOC's augmented set, ADE20K |
    | the same, parted by tabs or commas | Cityscapes |
    """
    text = text.replace('\\', '/')
    yield from _of(text)
    before, mark, _ = text.partition(' #')
    if mark and before.strip():
        yield from _of(before.strip())


def _of(text: str) -> Iterator[Reading]:
    fields = _fields(text)
    if _has_suffix(fields[0]):
        yield Reading(fields, True)
    if len(fields) > 1 and _has_suffix(text):  # a name with spaces
        yield Reading((text,), True)
    yield Reading((text,), False)


def _fields(text: str) -> tuple[str, ...]:
    mark = next((mark for mark in '\t,' if mark in text), None)
    return tuple(field.strip() for field in text.split(mark)) if mark else tuple(text.split())


def _has_suffix(path: str) -> bool:
    return without_image_suffix(path) != path
