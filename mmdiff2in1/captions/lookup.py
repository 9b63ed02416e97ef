"""Captions of images, read from a JSONL file and looked up by image path."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from mmdiff2in1.core.text_files import is_utf8, json_value, lines_of


def read_captions(path: str | Path) -> dict[str, str]:
    """Read lines of `{"image": "a/0001.png", "caption": "a room with …"}` into {image: caption}.

    `image` may be a bare file name or carry as many parent folders as it takes to be unique; see `image_key` for other
    ways to write it.

    Raises FileNotFoundError without the file; ValueError, with file and line, for a line that is not such an object or
    an image with two different captions, or an encoding that is not UTF-8. An empty caption is kept: `captions_of`
    decides what it means.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'caption file {path} does not exist; expected JSON lines {{"image": …, "caption": …}}. '
            'Make one with mmdiff2in1 caption (--by blip2, classes or file), or choose a fallback caption '
            '(caption_fallback="" creates without captions)'
        )
    captions: dict[str, str] = {}
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        try:
            entry = json_value(line)
            image, caption = entry['image'], entry['caption']
            if not isinstance(image, str) or not isinstance(caption, str) or not is_utf8(caption):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f'{path}:{number}: found {line[:80]!r}, expected {{"image": "<file>", "caption": "<text>"}}'
            ) from None
        image = image_key(image)
        if captions.setdefault(image, caption) != caption:
            raise ValueError(f'{path}:{number}: a second, different caption for {image}; keep one of them')
    return captions


def captions_of(images: Iterable[str], captions: Mapping[str, str], fallback: str | None = None) -> list[str]:
    """The caption of every image path, in order.

    A key of `captions` fits an image if it is the end of its path, whole folder names at a time; the longest wins.
    `fallback` stands in for missing and empty captions ('' creates without a caption).

    Raises ValueError naming the images if a caption is missing or empty and there is no fallback, or if one key would
    serve two images.
    """
    found: list[str] = []
    missing: list[str] = []
    served: dict[str, str] = {}
    for image in images:
        key = next((end for end in _path_ends(image_key(image)) if end in captions), None)
        caption = captions[key].strip() if key is not None else ''
        if not caption and fallback is None:
            missing.append(image)
            continue
        if key is not None and served.setdefault(key, image) != image:
            raise ValueError(
                f'the caption of "{key}" fits both {served[key]} and {image}; '
                'write the images of the caption file with as many parent folders as tell them apart'
            )
        found.append(caption or fallback)
    if missing:
        more = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
        raise ValueError(
            f'no caption for {missing[0]}{more}: found {len(captions)} captions, expected a non-empty one per image. '
            f'{_both_sides(missing, captions)}'
            'Add the lines, or set caption_fallback="" to create these without a caption'
        )
    return found


def image_key(image: str) -> str:
    """The name of an image as captions are looked up by: forward slashes, no ``./``, accents composed (NFC)."""
    return PurePosixPath(unicodedata.normalize('NFC', image.replace('\\', '/'))).as_posix()


def _both_sides(missing: list[str], captions: Mapping[str, str]) -> str:
    """Two names of each side, and what commonly parts them."""
    if not captions:
        return ''
    keys, images = list(captions)[:2], missing[:2]
    shown = (
        f'The file has captions of {" and ".join(map(repr, keys))}, the images are {" and ".join(map(repr, images))}'
    )
    if all(not PurePosixPath(key).suffix for key in keys):
        return f'{shown}: the names of the file lack their suffix. '
    if any(key.startswith('/') or key[1:3] == ':/' for key in keys):
        return f'{shown}: the file has whole paths of another place; write them relative to the data root. '
    return f'{shown}. '


def _path_ends(image: str) -> Iterable[str]:
    """'a/b/c.png' → 'a/b/c.png', 'b/c.png', 'c.png': longest first."""
    parts = PurePosixPath(image).parts
    return ('/'.join(parts[start:]).replace('//', '/') for start in range(len(parts)))
