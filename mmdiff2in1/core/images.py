"""Images as arrays: reading, measuring, checking and resizing them, and the way to the model's range and back.

B, C, H, W images; arrays are uint8 RGB (H, W, 3), tensors RGB in [-1, 1].

One decoder for all: OpenCV, called through mmcv as mmseg's `LoadImageFromFile` calls it, because what training sees is
what counts. Check, creation, captions, pretraining, pictures and the inferencer see the same pixels and refuse the same
files. Of images of 8 bits Pillow decodes the same; of 16 bits (it cuts at 255, which makes them white), CMYK, and an
orientation that stands in XMP only (it turns, OpenCV does not) it does not. Pillow reads headers, and resizes.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmengine import fileio
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from .image_faults import AGAIN, JPEG, READABLE, UnreadableImageError, fault_of

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""
TURNED = range(2, 9)
"""EXIF orientations that are not upright."""


def read_image(path: str | Path) -> np.ndarray:
    """An image file as training sees it, uint8 RGB (H, W, 3).

    Upright (EXIF); grey is repeated, transparency dropped, a palette resolved, of 16 bits the upper 8 are kept.

    Raises:
        FileNotFoundError: No such file.
        UnreadableImageError: A ValueError with what was found in the file, and what to do.
    """
    image = _decoded(path)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of what `read_image` gives, from the header alone where there is one that Pillow knows.

    Raises:
        FileNotFoundError: No such file.
        UnreadableImageError: Not an image.
    """
    (height, width), orientation = stored_frame(path)
    return (width, height) if orientation in SIDEWAYS else (height, width)


def stored_frame(path: str | Path) -> tuple[tuple[int, int], int]:
    """(H, W) as it stands in the file, and the EXIF orientation that OpenCV obeys, 1 (upright) … 8.

    Raises: see `image_size`.
    """
    try:
        with Image.open(path) as image:
            if isinstance(image, TiffImageFile):  # its `size` may be turned already
                tags = image.tag_v2
                size, orientation = (tags[IMAGELENGTH], tags[IMAGEWIDTH]), tags.get(ExifTags.Base.Orientation)
            else:
                size, orientation = (image.height, image.width), _orientation(image.info.get('exif'))
    except (OSError, SyntaxError, ValueError, KeyError, Image.DecompressionBombError):
        return read_image(path).shape[:2], 1  # or says why not
    return size, orientation if orientation in TURNED else 1


def check_sources(paths: Iterable[str | Path], what: str = 'source images') -> None:
    """Decode every image once, before hours of work depend on it; errors call them `what`.

    Raises FileNotFoundError if only missing files are found, else ValueError; both name the first files and count all.
    """
    with ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter lock
        errors = [error for error in pool.map(_decoding_error, paths) if error]
    if errors:
        errors.sort(key=lambda error: isinstance(error[1], FileNotFoundError), reverse=True)
        found = [f'{path}: missing' if isinstance(error, FileNotFoundError) else str(error) for path, error in errors]
        lines = '\n  '.join(found[:10] + ([f'and {len(found) - 10} more'] if len(found) > 10 else []))
        only_missing = all(isinstance(error, FileNotFoundError) for _, error in errors)
        raise (FileNotFoundError if only_missing else ValueError)(
            f'{len(found)} {what} cannot be read; replace them or take them out:\n  {lines}'
        )


def load_image(path: str | Path, size: Sequence[int]) -> np.ndarray:
    """`read_image`, resized to (H, W) `size` with Pillow's antialiased bicubic filter."""
    return resize_image(read_image(path), size)


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize to (H, W) `size`; the array itself if it has that size."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def to_model(images: Sequence[np.ndarray]) -> torch.Tensor:
    """Equally large uint8 images → float32 (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def from_model(images: torch.Tensor) -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] → uint8 (B, H, W, 3), rounded to the nearest grey level.

    Raises FloatingPointError if the images are not finite: in float16 the VAE of Stable Diffusion overflows.
    """
    if not torch.isfinite(images).all():
        raise FloatingPointError(
            'the diffusion model created NaN or infinite pixels; nothing of this batch was stored. '
            'Use dtype float32 or bfloat16, and check the weights'
        )
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def _decoding_error(path: str | Path) -> tuple[str | Path, Exception] | None:
    try:
        _decoded(path, small=True)
    except (FileNotFoundError, UnreadableImageError) as error:
        return path, error
    return None


def _decoded(path: str | Path, small: bool = False) -> np.ndarray:
    """uint8 BGR (H, W, 3); `small`: of a JPEG an eighth of that, from the whole stream, in a quarter of the time."""
    try:
        data = fileio.get(str(path))
    except FileNotFoundError:
        raise FileNotFoundError(f'image {path} does not exist; check its path, or data_root and img_path') from None
    except OSError as error:
        raise UnreadableImageError(path, str(error.strerror or error), READABLE, AGAIN) from error
    try:
        reduced = small and data[:3] == JPEG
        image = mmcv.imfrombytes(data, flag=cv2.IMREAD_REDUCED_COLOR_8 if reduced else 'color', backend='cv2')
    except cv2.error:  # an empty file, or one over its limit
        image = None
    if image is None:
        raise fault_of(path, data)
    return image


def _orientation(exif: bytes | None) -> int | None:
    """Of an EXIF block; Pillow's own `getexif` obeys XMP as well, which OpenCV does not know."""
    entries = Image.Exif()
    try:
        entries.load(exif or b'')
        return entries.get(ExifTags.Base.Orientation)
    except Exception:  # damaged: OpenCV passes over it as well
        return None
