"""Label files that are not simply a map as its task stores it: what a data set says of them, and how they are read.

A data info names the format of a file under `label_formats`, by the file's key. H, W: image size.
"""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from mmdiff2in1.core.label_files import read_map

from .pascal_files import NORMALS_KNOWN, human_parts, label_edges, label_map

FORMATS_KEY = 'label_formats'
CONTEXT_KEY = 'context_path'
"""Key, in a data info, of the file with PASCAL-Context's `LabelMap`."""
GREY = 0.02
"""Vectors of 8 bits with all components below are the zero vector: 127 and 128 are half a step from it."""
CLASS_SHARE = 0.01
"""So many pixels of the value 1 in a map of 0, 1 and 255 are a class, and no faint grey."""


def read_label_file(
    info: Mapping[str, Any], key: str, size: tuple[int, int], backend_args: dict | None = None
) -> np.ndarray:
    """The label file under `key` of a data info as its task decodes it.

    Args:
        info: Data info.
        key: Of the file in it.
        size: (H, W) of the image, for a file that shows nothing.
        backend_args: Of mmengine's file backend.

    Raises:
        ValueError: A file that cannot be read, or whose content is not of the format; a format that nobody knows.
    """
    name = format_of(info, key)
    if name is None:
        return read_map(info[key], backend_args)
    if name not in FORMATS:
        raise ValueError(f'unknown format {name!r} of {key}; known: {", ".join(FORMATS)}')
    return FORMATS[name](info, key, size, backend_args)


def format_of(info: Mapping[str, Any], key: str) -> str | None:
    """The name of a file's format; None: it is as its task stores it, which holds for the files of a store too."""
    return None if info.get('labels') == 'stored' else (info.get(FORMATS_KEY) or {}).get(key)


def _parts(info: Mapping, key: str, size: tuple[int, int], backend_args: dict | None) -> np.ndarray:
    """PASCAL-Part's struct."""
    return human_parts(info[key], size, backend_args)


def _label_map_edges(info: Mapping, key: str, size: tuple[int, int], backend_args: dict | None) -> np.ndarray:
    """Where the regions of a `LabelMap` meet."""
    return label_edges(label_map(info[key], backend_args))


def _grey_saliency(info: Mapping, key: str, size: tuple[int, int], backend_args: dict | None) -> np.ndarray:
    """Grey, 255 as salient as can be: more than half is salient."""
    array = read_map(info[key], backend_args)
    if array.dtype != np.uint8 or array.ndim != 2:
        raise ValueError(f'saliency: the file holds {array.dtype} of shape {array.shape}, expected grey, uint8 (H, W)')
    if array.max(initial=0) == 1:
        raise ValueError('saliency: the file holds 0 and 1, expected grey 0 … 255 with 255 for what is salient')
    counts = np.bincount(array.ravel(), minlength=256)
    if counts[1] > CLASS_SHARE * array.size and not counts[2:255].any():
        raise ValueError(
            'saliency: the file holds 0, 1 and 255, expected grey 0 … 255: if 1 is salient and 255 is not known, leave '
            'saliency_map_path out of label_formats'
        )
    return (array > 127).astype(np.uint8)


def _grey_normals(info: Mapping, key: str, size: tuple[int, int], backend_args: dict | None) -> np.ndarray:
    """(n + 1) / 2 in 8 bits, grey or black where not known, → unit and zero vectors (H, W, 3) float32."""
    return _unit(_vectors(info[key], backend_args))


def _context_normals(info: Mapping, key: str, size: tuple[int, int], backend_args: dict | None) -> np.ndarray:
    """The same, at the size of the `LabelMap`, zero outside of the labels in which they count."""
    try:
        labels = label_map(info[CONTEXT_KEY], backend_args)
    except ValueError as error:
        raise ValueError(f'its labels {info[CONTEXT_KEY]}: {error}') from None
    vectors = _vectors(info[key], backend_args)
    if vectors.shape[:2] != labels.shape:
        vectors = cv2.resize(vectors, labels.shape[::-1], interpolation=cv2.INTER_CUBIC)
    vectors = _unit(vectors)
    vectors[~np.isin(labels, list(NORMALS_KNOWN))] = 0
    return vectors


def _vectors(path: str, backend_args: dict | None) -> np.ndarray:
    array = read_map(path, backend_args)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f'normal: the file holds {array.dtype} of shape {array.shape}, expected uint8 (H, W, 3)')
    vectors = array.astype(np.float32) / np.float32(255) * 2 - 1
    vectors[~array.any(-1)] = 0
    return vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    """At unit length, which ATRC leaves as 8 bits have it; zero where there is no direction."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    known = (np.abs(vectors) > GREY).any(-1, keepdims=True)
    far = known & (np.abs(length - 1) > 0.5)
    if far.sum() > 0.5 * known.sum():
        raise ValueError(
            f'normal: {far.sum() / known.sum():.0%} of the vectors of the file have a length like '
            f'{float(length[far][0]):.3g}, expected about 1; is it a map of normals, (n + 1) / 2 in 8 bits?'
        )
    return np.where(known, vectors / np.where(known, length, 1), 0).astype(np.float32)


FORMATS: dict[str, Callable[..., np.ndarray]] = dict(
    pascal_parts=_parts,
    label_map_edges=_label_map_edges,
    grey_saliency=_grey_saliency,
    grey_normals=_grey_normals,
    context_normals=_context_normals,
)
"""Format → reads the file under a key of a data info, for an image of a size."""
