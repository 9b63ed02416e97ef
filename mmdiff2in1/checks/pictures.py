"""A few pairs of every data set with the labels laid over the images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdiff2in1.tasks import DenseTask, Depth, SurfaceNormal
from mmdiff2in1.visualization.overlays import Overlaid, overlay_panel

from .labels import LabelRules
from .pair import LABEL_KEY, label_keys, read_image, read_label
from .parts import DataPart, spread

DARK = (60, 60, 60)
UNKNOWN = (255, 0, 255)  # of values that no class has


def dataset_pictures(parts: Sequence[DataPart], num_classes: int | None, most: int) -> np.ndarray | None:
    """A sheet of at most `most` pairs, evenly spread over the data sets; None where no pair can be drawn.

    A pair whose files do not fit together is left out: it stands in the report.
    """
    listed = [part for part in parts if part.dataset is not None and len(part.dataset)]
    rows = []
    for number, part in enumerate(listed):
        share = most // len(listed) + (number < most % len(listed))
        rules = LabelRules.of(part.dataset, num_classes)
        for index in spread(len(part.dataset), share):
            row = _row(part, part.dataset.get_data_info(index), rules)
            rows += [row] if row is not None else []
    return overlay_panel(rows, 'Do the labels lie on what they name?') if rows else None


def _row(part: DataPart, info: Mapping, rules: LabelRules) -> Overlaid | None:
    """The first label of a pair over its image."""
    keys = label_keys(info)
    if not keys:
        return None
    try:
        image = np.asarray(read_image(info['img_path']).convert('RGB'))
        label = read_label(info[keys[0]], keys[0])
        if label.shape[:2] != image.shape[:2]:
            return None
        classes = part.dataset.metainfo.get('classes') or ()
        painted = _classes(label, rules, classes) if keys[0] == LABEL_KEY else _dense(label, part.tasks[keys[0]], info)
    except (ValueError, OSError, KeyError):
        return None
    height, width = image.shape[:2]  # written with an x: the sheet's font has no ×
    return Overlaid(image, *painted, f'{part.name}: {Path(info["img_path"]).name}, {height} x {width} pixels')


def _classes(label: np.ndarray, rules: LabelRules, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list]:
    """Colours (H, W, 3), known (H, W) and legend of a class label."""
    if label.ndim != 2:
        raise ValueError('colours, not classes')
    trained = rules.trained[label.astype(np.uint8)]
    palette = np.full((256, 3), UNKNOWN, np.uint8)
    palette[: len(rules.palette)] = rules.palette or palette[:0]
    known, legend = trained != rules.ignore_index, []
    counts = np.bincount(trained.ravel(), minlength=256)
    for value in np.argsort(-counts, kind='stable')[: np.count_nonzero(counts)].tolist():
        name = 'ignored' if value == rules.ignore_index else classes[value] if value < len(classes) else 'no such class'
        colour = DARK if value == rules.ignore_index else tuple(palette[value].tolist())
        legend.append((f'{value} {name} {counts[value] / label.size:.1%}', colour))
    return palette[trained], known, legend


def _dense(label: np.ndarray, task: DenseTask, info: Mapping) -> tuple[np.ndarray, np.ndarray, list]:
    """The same for a depth or normal map, in this package's frame."""
    values = task.decode(label)
    if isinstance(task, SurfaceNormal) and info.get('label_axes') is not None:
        values = task.reorient(values, info['label_axes'])
    known = (values != 0).reshape(*values.shape[:2], -1).any(-1)
    legend = [(f'{task.name}: {known.mean():.1%} of the pixels', DARK)]
    if isinstance(task, SurfaceNormal):
        legend += [
            ('facing the viewer', (128, 128, 255)),
            ('facing up', (128, 255, 128)),
            ('facing down', (128, 0, 128)),
        ]
        legend += [('facing left', (255, 128, 128)), ('facing right', (0, 128, 128))]
    elif isinstance(task, Depth):
        for metres in np.linspace(0, task.max_depth, 5)[1:]:
            colour = task.colours(np.full((1, 1), metres, np.float32))[0, 0]
            legend.append((f'{metres:g} m', tuple(colour.tolist())))
    return task.colours(values), known, legend
