"""The MATLAB files of PASCAL-Context and PASCAL-Part as label maps. H, W: image size."""

import io
from typing import Any

import cv2
import numpy as np
import scipy.io
from mmengine import fileio

from mmdiff2in1.core.thinning import thin

PERSON = 15
"""`class_ind` of a person, VOC's number."""
_HEAD = ('head', 'hair', 'leye', 'reye', 'lear', 'rear', 'lebrow', 'rebrow', 'nose', 'mouth')
_NAMES = (
    _HEAD,
    ('neck', 'torso'),
    ('luarm', 'ruarm'),
    ('llarm', 'lhand', 'rlarm', 'rhand'),
    ('luleg', 'ruleg'),
    ('llleg', 'lfoot', 'rlleg', 'rfoot'),
)
PART_OF = {name: part for part, names in enumerate(_NAMES, 1) for name in names}
"""The 24 parts of a person in PASCAL-Part → the classes 1 … 6 of `HumanParts`."""


def read_mat(path: str, variable: str, backend_args: dict | None = None) -> Any:
    """A variable of a MATLAB file up to version 7; structs have attributes, an array of length 1 is its item.

    Raises:
        ValueError: Not such a file, or another variable in it.
    """
    data = fileio.get(path, backend_args=backend_args)
    try:
        content = scipy.io.loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=False)
    except Exception as error:  # a damaged file breaks the reader in many ways
        raise ValueError(f'expected a MATLAB file up to version 7, found: {error}') from error
    if variable not in content:
        found = ', '.join(name for name in content if not name.startswith('__')) or 'no variable'
        raise ValueError(f'expected the variable {variable!r} in the MATLAB file, found {found}; is it of another set?')
    return content[variable]


def human_parts(path: str, size: tuple[int, int], backend_args: dict | None = None) -> np.ndarray:
    """Seven classes (H, W) uint8 of a PASCAL-Part file, see `HumanParts`; 0 everywhere where no person has parts.

    Parts are painted in the order of the file, a later one over an earlier.

    Args:
        path: With `anno.objects[].{class_ind, mask, parts[].{part_name, mask}}`.
        size: (H, W) of a file without any object.
        backend_args: Of mmengine's file backend.

    Raises:
        ValueError: No such struct, a part that no person has, or masks of different sizes.
    """
    anno = read_mat(path, 'anno', backend_args)
    try:
        objects = np.atleast_1d(anno.objects)
        masks = [each.mask for each in objects]
        persons = [each for each in objects if int(each.class_ind) == PERSON]
        painted = [(str(part.part_name), part.mask) for each in persons for part in np.atleast_1d(each.parts)]
    except (AttributeError, TypeError, ValueError) as error:
        expected = 'anno.objects with class_ind, mask and parts, as PASCAL-Part has them'
        raise ValueError(f'expected {expected}, found: {error}') from error
    if masks:
        size = masks[0].shape
    array = np.zeros(size, np.uint8)
    for name, mask in painted:
        if name not in PART_OF:
            raise ValueError(f'a person has a part {name!r}; expected one of {", ".join(PART_OF)}')
        if mask.shape != array.shape:
            raise ValueError(f'the mask of {name} has {mask.shape}, expected {array.shape}, the size of the others')
        array[mask > 0] = PART_OF[name]
    return array


def label_map(path: str, backend_args: dict | None = None) -> np.ndarray:
    """PASCAL-Context's `LabelMap`, (H, W) int32, 1 … 459.

    Raises:
        ValueError: None in the file, or something else than an array of numbers of whole classes.
    """
    array = np.asarray(read_mat(path, 'LabelMap', backend_args))
    if array.ndim != 2 or array.dtype.kind not in 'uif' or not array.size:
        raise ValueError(f'LabelMap holds {array.dtype} of shape {array.shape}, expected numbers of shape (H, W)')
    return array.astype(np.int32)


def label_edges(labels: np.ndarray) -> np.ndarray:
    """Edges (H, W) uint8, 0 or 255, of a label map: where the Laplacian over 4 neighbours is not 0, thinned.

    What InvPT and TaskPrompter are trained with; they are scored on `region_borders` of the label map itself.
    """
    laplacian = cv2.Laplacian(labels.astype(np.float64), cv2.CV_64F, ksize=1)
    return thin(laplacian != 0).astype(np.uint8) * np.uint8(255)


NORMALS_KNOWN = frozenset(
    int(number)
    for number in (
        '3 4 6 9 10 11 13 15 17 18 22 23 29 30 33 34 36 37 38 39 41 43 46 49 50 51 53 55 56 59 61 62 65 66 68 69 72 73 '
        '78 83 84 85 87 88 95 96 101 104 105 107 111 113 115 122 124 135 141 142 143 146 150 154 157 158 159 165 172 '
        '174 181 183 184 191 193 195 197 199 202 213 215 216 219 220 223 225 228 230 232 233 238 239 242 243 246 250 '
        '251 252 255 260 261 263 269 272 273 275 281 283 284 285 286 287 288 290 291 292 293 295 304 307 309 310 314 '
        '315 319 323 329 330 331 336 342 345 349 350 351 352 355 357 368 370 371 374 379 380 383 384 397 401 403 405 '
        '407 408 411 412 413 414 417 419 421 423 427 429 430 432 440 441 442 443 444 446 454 457'
    ).split()
)
"""Labels 1 … 459 inside which PASCAL's normals count: what NYUv2, on whose images their network was trained, has too.

The 169 names that both lists of classes share, and tvmonitor (427).
"""
