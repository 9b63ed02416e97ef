"""NYUD-MT and PASCAL-Context with a handful of rendered rooms, in the layouts of ATRC, InvPT and TaskPrompter."""

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from mmdiff2in1.datasets.pascal_files import label_edges
from mmdiff2in1.datasets.scenes import render_scene

SIZE = (40, 56)
CONTEXT_OF = np.array([440, 158, 360, *range(1, 9)], np.uint16)
"""A label of PASCAL-Context for each class of a scene: wall, floor, sky (where normals do not count), others."""


def room(number: int):
    """Image RGB, classes, depth, normals of 40 × 56 pixels out of a scene of 64 × 64."""
    scene = render_scene(5, number, 64)
    return [array[: SIZE[0], : SIZE[1]].copy() for array in (scene.image, scene.semantic, scene.depth, scene.normal)]


def in_8_bits(normal: np.ndarray) -> np.ndarray:
    """(n + 1) / 2 in 8 bits, black where there is none."""
    return np.where(normal.any(-1, keepdims=True), np.round((normal + 1) / 2 * 255), 0).astype(np.uint8)


def write(path: Path, array: np.ndarray) -> None:
    """Any array as the kind of file that the suffix names; colours are RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npy':
        np.save(path, array)
    else:
        cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def write_nyud(root: Path, train: int = 3, val: int = 2) -> Path:
    """Rooms 0 …; the first rows are not known to normals, depth and classes."""
    number = 0
    for part, count in (('train', train), ('val', val)):
        names = []
        for _ in range(count):
            image, classes, depth, normal = room(number)
            normal[:3], depth[:2] = 0, 0
            labels = classes + 1
            labels[:1] = 0
            names.append(f'{number + 1:04d}')
            write(root / f'images/{names[-1]}.png', image)
            write(root / f'segmentation/{names[-1]}.png', labels)
            write(root / f'depth/{names[-1]}.npy', depth)
            write(root / f'normals/{names[-1]}.png', in_8_bits(normal))
            write(root / f'edge/{names[-1]}.png', label_edges(classes.astype(np.int32)))
            number += 1
        lists = root / 'gt_sets' / f'{part}.txt'
        lists.parent.mkdir(exist_ok=True)
        lists.write_text(''.join(f'{name}\n' for name in names))
    return root


def struct(*rows: dict) -> np.ndarray:
    """A MATLAB struct array (1, n) with these fields; without rows an empty array."""
    if not rows:
        return np.zeros((0, 0))
    array = np.zeros((1, len(rows)), [(key, object) for key in rows[0]])
    for place, row in enumerate(rows):
        for key, value in row.items():
            array[key][0, place] = value
    return array


def write_parts(path: Path, *objects: tuple[str, int, np.ndarray, dict[str, np.ndarray]]) -> None:
    """PASCAL-Part's file: objects as (class, its number, mask, masks of parts by name)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, number, mask, parts in objects:
        inner = struct(*(dict(part_name=part, mask=array.astype(np.uint8)) for part, array in parts.items()))
        rows.append({'class': name, 'class_ind': number, 'mask': mask.astype(np.uint8), 'parts': inner})
    scipy.io.savemat(path, dict(anno=struct(dict(imname=path.stem, objects=struct(*rows)))))


def box(top: int, bottom: int, left: int, right: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """bool (H, W), True inside."""
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


PERSON = (
    'person',
    15,
    box(5, 30, 10, 30),
    dict(head=box(5, 12, 14, 20), torso=box(10, 22, 12, 24), lfoot=box(26, 30, 14, 18)),
)
"""The torso lies over the lower rows of the head."""
DOG = ('dog', 12, box(20, 38, 35, 50), dict(head=box(20, 26, 35, 42)))


def write_pascal(root: Path, train: int = 3, val: int = 2) -> Path:
    """Rooms 10 …; even ones show a person, odd ones have their classes in the other folder and small normals."""
    number = 0
    for part, count in (('train', train), ('val', val)):
        names = []
        for _ in range(count):
            image, classes, _, normal = room(10 + number)
            names.append(f'2008_{number:06d}')
            name, even = names[-1], number % 2 == 0
            write(root / f'JPEGImages/{name}.jpg', image)
            write(root / f'semseg/{"VOC12" if even else "pascal-context"}/{name}.png', classes)
            write_parts(root / f'human_parts/{name}.mat', *((PERSON, DOG) if even else (DOG,)))
            grey = np.linspace(0, 255, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
            write(root / f'sal_distill/{name}.png', grey)
            stored = in_8_bits(normal)
            write(root / f'normals_distill/{name}.png', stored if even else cv2.resize(stored, (28, 20)))
            (root / 'pascal-context/trainval').mkdir(parents=True, exist_ok=True)
            labels = CONTEXT_OF[classes]
            scipy.io.savemat(root / f'pascal-context/trainval/{name}.mat', dict(LabelMap=labels))
            number += 1
        lists = root / 'ImageSets/Context' / f'{part}.txt'
        lists.parent.mkdir(parents=True, exist_ok=True)
        lists.write_text(''.join(f'{name}\n' for name in names))
    return root
