"""Looks at a spread of image and label files before a long training starts."""

import numpy as np
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image

LABEL_KEY = 'seg_map_path'


def check_labels(dataset, num_classes: int, name: str, most: int = 64) -> int:
    """Reads up to ``most`` pairs, evenly spread over ``dataset``.

    Args:
        dataset: A segmentation dataset with ``get_data_info``.
        num_classes: Of the decode head.
        name: What the errors call it.
        most: Pairs read; all files of a large set are not.

    Returns:
        Pairs read.

    Raises:
        ValueError: A file that cannot be read, a label of another size than its image, or label values that are neither
            a class nor the ignore index; with the file, what was found and what was expected.
    """
    indices = sorted({round(i) for i in np.linspace(0, len(dataset) - 1, min(most, len(dataset)))})
    for index in indices:
        info = dataset.get_data_info(index)
        if info.get(LABEL_KEY) is None:
            return 0
        image, label = _read(info['img_path']), _read(info[LABEL_KEY])
        if label.shape[:2] != image.shape[:2]:
            raise ValueError(
                f'{name}: {info[LABEL_KEY]} is {label.shape[0]}×{label.shape[1]}, its image {info["img_path"]} '
                f'{image.shape[0]}×{image.shape[1]} (height × width): a label must have the size of its image'
            )
        _check_values(label, info, num_classes, dataset.ignore_index, name)
    return len(indices)


def check_data(cfg: Config) -> None:
    """:func:`check_labels` for the sets of a config with a ``SelfImprovingSegmentor``."""
    head = cfg.model.segmentor.get('decode_head', {})
    head = head[-1] if isinstance(head, list) else head
    num_classes = head.get('head', head).get('num_classes')
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if not cfg.get(loader):
            continue
        dataset_cfg = cfg[loader].dataset
        if dataset_cfg.type == 'SyntheticSampleDataset':
            dataset_cfg = dataset_cfg.dataset
        dataset = DATASETS.build(dataset_cfg)
        dataset.full_init()
        for part in _parts(dataset):
            if num_classes is not None and hasattr(part, 'ignore_index'):
                check_labels(part, num_classes, f'{loader}.dataset')


def _parts(dataset) -> list:
    """The datasets inside mmengine's RepeatDataset and ConcatDataset."""
    if hasattr(dataset, 'datasets'):
        return [part for inner in dataset.datasets for part in _parts(inner)]
    return _parts(dataset.dataset) if hasattr(dataset, 'dataset') else [dataset]


def _read(path: str) -> np.ndarray:
    """Decoded to the last byte, as mmseg decodes labels: a palette image gives its indices."""
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except OSError as error:
        raise ValueError(f'{path}: expected a whole image file, found: {error}') from error


def _check_values(label: np.ndarray, info: dict, num_classes: int, ignore_index: int, name: str) -> None:
    values = np.unique(label).astype(int)
    if info.get('reduce_zero_label'):
        values = np.where(values == 0, ignore_index, values - 1)
    mapped = {(info.get('label_map') or {}).get(int(v), int(v)) for v in values}
    strange = sorted(v for v in mapped if not 0 <= v < num_classes and v != ignore_index)
    if strange:
        raise ValueError(
            f'{name}: {info[LABEL_KEY]} holds the label values {strange[:8]} after zero-label reduction and label map; '
            f'expected 0 … {num_classes - 1} or {ignore_index} (ignore). Check num_classes, reduce_zero_label and '
            'ignore_index'
        )
