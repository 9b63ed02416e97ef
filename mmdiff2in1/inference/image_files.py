"""Images in whatever form a user has them, as uint8 RGB (H, W, 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmdiff2in1.core.folders import IMAGE_SUFFIXES
from mmdiff2in1.core.images import check_sources, read_image
from mmdiff2in1.core.photos import photos_below

Images = str | Path | np.ndarray | Image.Image | Sequence
"""A file, a folder of files (without masks beside them, see `photos_below`), an array (H, W), (H, W, 1), (H, W, 3) or
(H, W, 4) of uint8 RGB(A), a Pillow image, or a sequence of those."""


@dataclass(frozen=True)
class Picture:
    """uint8 RGB (H, W, 3), and the file it comes from."""

    image: np.ndarray
    path: str | None = None


def read_images(images: Images) -> list[Picture]:
    """All images at once, see :func:`iterate_images`."""
    return list(iterate_images(images))


def iterate_images(images: Images) -> Iterator[Picture]:
    """Images one by one, upright (EXIF) and in RGB; grey is repeated, transparency dropped, 16 bits are cut to 8.

    Every file is decoded once when this is called, so that a damaged one is found now and not an hour later, and again
    when it is its turn.

    Raises:
        FileNotFoundError: Files that are not there, or a folder without images; they are named.
        ValueError: Files that cannot be decoded, no images at all, or (in turn) arrays of another shape.
        TypeError: Something else than an image, or (in turn) an array that is not uint8.
    """
    listed = _listed(images)
    if not listed:
        raise ValueError('no images were given; expected at least one')
    check_sources([each for each in listed if isinstance(each, Path)])
    return map(_picture, listed)


def _listed(images: Images) -> Sequence[Path | np.ndarray | Image.Image]:
    if isinstance(images, str | Path):
        path = Path(images).expanduser()
        if not path.is_dir():
            return [path]
        files = [path / name for name in photos_below(path)]
        if not files:
            raise FileNotFoundError(f'folder {path} holds no images ({", ".join(IMAGE_SUFFIXES)})')
        return files
    if isinstance(images, np.ndarray | Image.Image):
        return [images]
    if isinstance(images, Sequence):
        return [each for image in images for each in _listed(image)]
    raise TypeError(f'an image is a {type(images).__name__}; expected a path, an array (H, W, 3) or a Pillow image')


def _picture(image: Path | np.ndarray | Image.Image) -> Picture:
    if isinstance(image, Path):
        return Picture(read_image(image), image.as_posix())
    if isinstance(image, Image.Image):
        return Picture(_rgb(image))
    if image.dtype != np.uint8:
        raise TypeError(f'an image array holds {image.dtype}; expected uint8 in 0 … 255')
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))) or image.size == 0:
        raise ValueError(
            f'an image array has shape {image.shape}; expected (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey'
        )
    return Picture(_rgb(Image.fromarray(np.ascontiguousarray(image))))


def _rgb(image: Image.Image) -> np.ndarray:
    """As `read_image` gives it of a file with the same pixels."""
    if image.mode in ('I', 'F'):
        raise TypeError(
            f'a Pillow image has the mode {image.mode} ({"32-bit integers" if image.mode == "I" else "floats"}); '
            'expected 8 or 16 bits per channel: bring its values to 0 … 255 first'
        )
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):  # Pillow's own conversion clips at 255: the image would be white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.array(image.convert('RGB'))
