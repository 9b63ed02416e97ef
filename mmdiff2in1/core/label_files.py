"""Label maps as files: PNG of 8 or 16 bits as this package writes them, and what data sets have. H, W: image size."""

import io
from pathlib import Path

import cv2
import numpy as np
from mmengine import fileio


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
    """What `write_png` wrote."""
    array = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise OSError(f'{file} cannot be read as PNG')
    return array if array.ndim == 2 else array[..., ::-1]
