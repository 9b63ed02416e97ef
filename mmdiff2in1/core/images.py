"""Source images as arrays: checking, measuring, loading, and the way to the model's range and back.

B, C, H, W images; arrays are uint8 RGB (H, W, 3), tensors RGB in [-1, 1].
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

# EXIF orientations that swap height and width.
SIDEWAYS = (5, 6, 7, 8)


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image as mmcv would load it (EXIF rotation applied), from its header alone.

    Raises FileNotFoundError or ValueError naming the file.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
    except FileNotFoundError:
        raise FileNotFoundError(f'source image {path} does not exist; check data_root and img_path') from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f'source image {path} is not readable ({error}); replace it or take it out') from error
    return (width, height) if sideways else (height, width)


def check_sources(paths: Iterable[str | Path], what: str = 'source images') -> None:
    """Decode every image once, before hours of work depend on it; errors call them `what`.

    Raises FileNotFoundError if only missing files are found, else ValueError; both name the first files and count all.
    """
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock
        errors = [error for error in pool.map(_decoding_error, paths) if error]
    if errors:
        errors.sort(key=lambda error: isinstance(error[1], FileNotFoundError), reverse=True)
        found = [f'{path}: {"missing" if isinstance(error, FileNotFoundError) else error}' for path, error in errors]
        lines = '\n  '.join(found[:10] + ([f'and {len(found) - 10} more'] if len(found) > 10 else []))
        only_missing = all(isinstance(error, FileNotFoundError) for _, error in errors)
        raise (FileNotFoundError if only_missing else ValueError)(
            f'{len(found)} {what} cannot be read; replace them or take them out:\n  {lines}'
        )


def _decoding_error(path: str | Path) -> tuple[str | Path, Exception] | None:
    try:
        with Image.open(path) as image:
            # A small JPEG is decoded from the whole stream several times faster, and a cut stream still shows.
            image.draft('RGB', (64, 64))
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        return path, error
    return None


def load_image(path: str | Path, size: Sequence[int]) -> np.ndarray:
    """The image at `path`, see `as_rgb`, resized to (H, W) `size` with Pillow's antialiased bicubic filter."""
    with Image.open(path) as image:
        return resize_image(as_rgb(image), size)


def as_rgb(image: Image.Image) -> np.ndarray:
    """Upright (EXIF) and RGB, uint8 (H, W, 3): grey is repeated, transparency dropped, 16 bits are cut to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):  # Pillow's own conversion clips at 255: the image would be white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.array(image.convert('RGB'))


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
