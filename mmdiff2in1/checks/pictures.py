"""A few pairs of every data set with the labels laid over the images."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdiff2in1.core.image_loading import picture_reader
from mmdiff2in1.core.label_files import read_map, where_known
from mmdiff2in1.datasets.transforms.load_dense_annotation import is_turned
from mmdiff2in1.tasks import DenseTask
from mmdiff2in1.visualization.overlays import Overlaid, overlay_panel

from .labels import LabelRules
from .loading import LABEL_KEY, label_keys
from .pair import read_label
from .parts import DataPart, spread


def dataset_pictures(parts: Sequence[DataPart], num_classes: int | None, most: int) -> np.ndarray | None:
    """A sheet of at most `most` pairs, evenly spread over the data sets, a row for each label; None without any.

    A label whose file does not fit is left out: it stands in the report.
    """
    listed = [part for part in parts if part.dataset is not None and len(part.dataset)]
    rows: list[Overlaid] = []
    for number, part in enumerate(listed):
        share = most // len(listed) + (number < most % len(listed))
        rules = part.rules(num_classes)
        for index in spread(len(part.dataset), share):
            rows += _rows(part, part.dataset.get_data_info(index), rules)
    return overlay_panel(rows, 'Do the labels lie on what they name?') if rows else None


def _rows(part: DataPart, info: Mapping, rules: LabelRules | None) -> Iterable[Overlaid]:
    """Each label of a pair over its image."""
    labels: list[tuple[str, DenseTask | LabelRules]] = []
    for key in label_keys(info):
        if key == LABEL_KEY and rules is not None:
            labels.append((key, rules))
        tasks = [task for task in part.tasks.values() if task.path_key == key]
        labels += [(key, task.of_dataset(part.dataset.metainfo)) for task in tasks]
    for key, task in labels:
        try:
            image = picture_reader(part.dataset)(info['img_path'])
            array = _map(info, key, task, image.shape[:2])
            if array.shape[:2] != image.shape[:2]:
                continue
            painted = task.colours(array), task.known(array), task.legend(array)
        except (ValueError, OSError):
            continue
        height, width = image.shape[:2]
        caption = f'{part.name}: {Path(info["img_path"]).name}, {height} × {width} pixels'
        yield Overlaid(image, *painted, caption)


def _map(info: Mapping, key: str, task: DenseTask | LabelRules, size: tuple[int, int]) -> np.ndarray:
    """The map of a label file, in this package's axes."""
    if isinstance(task, LabelRules):
        return task.decode(read_label(info, key, size, task.backend))
    raw = read_label(info, key, size)
    if info.get('valid_mask_path') is not None:
        raw = where_known(raw, read_map(info['valid_mask_path']))
    array = task.decode(raw)
    return task.reorient(array, info['label_axes']) if is_turned(info, task) else array
