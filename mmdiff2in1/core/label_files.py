"""Label maps as files: PNG of 8 or 16 bits as this package writes them, and what data sets have. H, W: image size.

Two readers, because training has two: class indices are read by Pillow, as mmseg's `LoadAnnotations` has it (a palette
image gives its indices, a 1-bit one 0 and 1), all other maps by OpenCV, because Pillow has no 16-bit colour.
"""

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import mmcv
import numpy as np
from mmengine import fileio
from PIL import Image

from .image_faults import JPEG, TIFF


def read_map(path: str, backend_args: dict | None = None) -> np.ndarray:
    """A label file unchanged, colours in RGB order: any image that OpenCV reads, or a `.npy` array.

    Raises:
        ValueError: Not such a file.
    """
    data = fileio.get(path, backend_args=backend_args)
    if not data:
        raise ValueError('expected an image or a .npy file, found an empty one')
    if path.endswith('.npy'):
        try:
            return np.load(io.BytesIO(data), allow_pickle=False)
        except EOFError as error:
            raise ValueError('expected a whole .npy file, found the beginning of one') from error
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ValueError('expected an image file, found something that OpenCV cannot read')
    return cv2.cvtColor(array, cv2.COLOR_BGR2RGB) if array.ndim == 3 and array.shape[2] == 3 else array


def read_classes(path: str, backend: str = 'pillow') -> np.ndarray:
    """A file of class indices as mmseg's `LoadAnnotations` reads it, before it keeps the lowest 8 bits: (H, W), or
    RGB (H, W, channels) of a file that holds colours.

    Args:
        path: Of the file.
        backend: mmcv's name of the decoder, `imdecode_backend` of the loader.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a whole image file.
    """
    try:
        array = mmcv.imfrombytes(fileio.get(path), flag='unchanged', backend=backend)
    except FileNotFoundError:
        raise
    except Exception as error:  # every decoder has errors of its own
        raise ValueError(f'{path}: expected a whole image file, found: {error}') from error
    if array is None:
        raise ValueError(f'{path}: expected a whole image file, found something that {backend} cannot read')
    if array.ndim == 3 and array.shape[2] >= 3:  # mmcv's order is BGR
        array = np.concatenate([array[..., 2::-1], array[..., 3:]], -1)
    return array


def lossy_container(path: str) -> str | None:
    """By what a file is compressed such that its values are not those that were written, whatever it is called.

    `JPEG`, `JPEG in a TIFF`, `WebP, as lossy as JPEG`; None: by nothing of the kind, or it cannot be read.
    """
    try:
        with open(path, 'rb') as stream:
            head = stream.read(12)
            if head[:3] == JPEG:
                return 'JPEG'
            if head[:4] == b'RIFF' and head[8:] == b'WEBP':
                return 'WebP, as lossy as JPEG' if b'VP8 ' in _chunks(stream) else None
        if head[:4] in TIFF:
            with Image.open(path) as image:
                return 'JPEG in a TIFF' if image.info.get('compression') in ('jpeg', 'tiff_jpeg') else None
    except (OSError, SyntaxError, ValueError, struct.error):  # its reader says what is wrong
        pass
    return None


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Names of the chunks of a RIFF file, from where the stream is."""
    while len(head := stream.read(8)) == 8:
        yield head[:4]
        (length,) = struct.unpack('<I', head[4:])
        stream.seek(length + length % 2, os.SEEK_CUR)


def where_known(raw: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A label file's content (H, W, ...) with zeros where its mask (H, W) or (H, W, 3) is 0.

    Raises:
        ValueError: Of different sizes.
    """
    if mask.shape[:2] != raw.shape[:2]:
        raise ValueError(f'found a mask of {mask.shape[:2]}, expected {raw.shape[:2]}, the size of its map')
    known = is_known(mask)
    return np.where(known.reshape(*known.shape, *[1] * (raw.ndim - 2)), raw, raw.dtype.type(0))


def is_known(mask: np.ndarray) -> np.ndarray:
    """bool (H, W): where a mask (H, W) or (H, W, 3) is not 0."""
    return np.asarray(mask.reshape(*mask.shape[:2], -1).any(-1))


def write_png(file: Path, array: np.ndarray) -> None:
    """Write uint8 or uint16, (H, W) or RGB (H, W, 3); missing folders are made.

    Raises:
        OSError: The file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # OpenCV, because Pillow has no 16-bit colour; it takes BGR.
    _, data = cv2.imencode('.png', array if array.ndim == 2 else np.ascontiguousarray(array[..., ::-1]))
    file.write_bytes(data.tobytes())


def read_png(file: Path) -> np.ndarray:
    """Array that `write_png` wrote."""
    # OpenCV itself opens no file whose name is no UTF-8.
    data = np.frombuffer(file.read_bytes(), np.uint8)
    array = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if array is None:
        raise OSError(f'{file} cannot be read as PNG')
    return array if array.ndim == 2 else array[..., ::-1]
