"""Images and labels where a config looks for them, and one store of samples for all configs.

All are noise in blocks of 8 pixels, HEIGHT × WIDTH, drawn from the name of the file.
"""

import inspect
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.synthesis import SampleStore

HEIGHT, WIDTH, BLOCK = 96, 192, 8
IMAGES = {'train_dataloader': 4, 'val_dataloader': 2, 'test_dataloader': 2}
SAMPLES = 4
BANDS = 25
"""Channels of an image in a .npy file: those of HSI-Drive."""
KIND = 'bathroom'
"""Files of NYUv2 are named after the kind of room."""


def leaves(dataset: Any) -> Iterator[Any]:
    """The configs of data sets that list files, inside of wrappers."""
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    for each in inner:
        yield from leaves(each)
    if not inner:
        yield dataset


def make_data(cfg: Config, folder: Path, num_classes: int) -> None:
    """Turns the data sets of a config to `folder`, where the files that they list are made; their names stay."""
    init_default_scope('mmseg')
    for loader, count in IMAGES.items():
        for dataset in leaves(cfg[loader].dataset):
            dataset.data_root = str(folder / dataset.type)
            _make_set(dataset, count, num_classes)


def make_store(folder: Path) -> Path:
    """A store of `SAMPLES` images that were made from none."""
    store = SampleStore(folder)
    if not store.exists:
        for index in range(SAMPLES):
            name = f'made-{index}'
            store.add(dict(sample_id=name, source=None), _blocks(name, 256, 3).astype(np.uint8))
    return folder


def _make_set(dataset: Any, count: int, num_classes: int) -> None:
    root, kind = Path(dataset.data_root), DATASETS.get(dataset.type)

    def setting(name: str) -> Any:
        return dataset[name] if name in dataset else _default(kind, name)

    places = setting('data_prefix')
    labels = 'depth_map_path' if 'depth_map_path' in places else 'seg_map_path'
    suffix = setting('depth_map_suffix' if labels == 'depth_map_path' else 'seg_map_suffix')
    classes = num_classes + bool(setting('reduce_zero_label'))
    names = [f'{KIND}_{Path(dataset.get("ann_file") or places["img_path"]).stem}{index}' for index in range(count)]
    for name in names:
        image = _blocks(name, 256, BANDS if setting('img_suffix') == '.npy' else 3)
        for key in ('img_path', 'img_path2'):
            if key in places:
                _write(root / places[key] / (name + setting('img_suffix')), image.astype(np.uint8))
        label = _blocks(name + labels, classes, 1)[..., 0]
        depth = (500 + 9500 * label / classes).astype(np.uint16)  # millimetres
        _write(root / places[labels] / (name + suffix), depth if 'depth' in labels else label.astype(np.uint8))
    if dataset.get('ann_file'):
        write_atomically(root / dataset.ann_file, '\n'.join(names).encode())


def _default(kind: type, name: str) -> Any:
    """What a data set takes where its config says nothing."""
    for each in inspect.getmro(kind):
        parameter = inspect.signature(each).parameters.get(name)
        if parameter is not None:
            return parameter.default
    raise ValueError(f'{kind.__name__} has no {name}')


def _blocks(name: str, values: int, channels: int) -> np.ndarray:
    """(HEIGHT, WIDTH, channels) of integers in [0, values)."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    small = draw.integers(0, values, (HEIGHT // BLOCK, WIDTH // BLOCK, channels))
    return small.repeat(BLOCK, 0).repeat(BLOCK, 1)


def _write(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == '.npy':
        np.save(file, array)
    elif not cv2.imwrite(str(file), array):
        raise ValueError(f'{file}: OpenCV writes no such file')
