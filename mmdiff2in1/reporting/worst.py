"""The test images that a model sees worst, of each task: image, ground truth, prediction, error."""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmseg.registry import DATASETS

from mmdiff2in1.core.image_loading import picture_reader
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.tasks import DenseTask

from .agreement import Agreement
from .errors import error_colours, error_legend, error_scale, in_words, mean_error, pixel_errors
from .pictures import Row, flat, legend, map_picture, photo

MOST_LOOKED_AT = 200
"""Test images, evenly spread: the page should not take as long as a test."""


@dataclass(frozen=True)
class Worst:
    """`looked_at` of `images` of a set, the worst rows and how well all were seen, by task."""

    looked_at: int
    images: int
    of: str
    rows: dict[str, list[Row]]
    agreement: dict[str, Agreement]


@dataclass(frozen=True)
class _Seen:
    error: float
    path: str
    truth: np.ndarray
    found: np.ndarray
    errors: np.ndarray


@torch.no_grad()
def worst_images(cfg: Config, model: Diff2in1Inferencer, count: int, whose: str) -> Worst:
    """Predicts the test set of a config, the validation set if there is none, and keeps the `count` worst.

    Args:
        cfg: With the data set.
        model: Predicts.
        count: Rows of all tasks together, at least one for each.
        whose: Name of the model.

    Raises ValueError for a config without both sets, or without ground truth in them.
    """
    of = next((name for name in ('test', 'val') if cfg.get(f'{name}_dataloader')), None)
    if of is None:
        raise ValueError('the config has neither test_dataloader nor val_dataloader')
    dataset = DATASETS.build(cfg[f'{of}_dataloader'].dataset)
    indices = sorted({round(i) for i in np.linspace(0, len(dataset) - 1, min(len(dataset), MOST_LOOKED_AT))})
    each = math.ceil(count / len(model.tasks))
    agreement = {name: Agreement(task) for name, task in model.tasks.items()}
    kept: dict[str, list[tuple[float, int, _Seen]]] = {name: [] for name in model.tasks}
    for index in indices:
        (sample,) = model.segmentor.test_step(pseudo_collate([dataset[index]]))
        for name, task in model.tasks.items():
            seen = _seen(task, sample)
            if seen is not None:
                agreement[name].add(seen.found, seen.truth)
                heapq.heappush(kept[name], (seen.error, -index, seen))
                if len(kept[name]) > each:
                    heapq.heappop(kept[name])
    if not any(kept.values()):
        raise ValueError(f'no image of {of}_dataloader has ground truth')
    picture_of = picture_reader(dataset)
    rows = {
        name: _rows(model.tasks[name], [seen for *_, seen in sorted(found, reverse=True)], whose, picture_of)
        for name, found in kept.items()
        if found
    }
    return Worst(len(indices), len(dataset), 'test' if of == 'test' else 'validation', rows, agreement)


def _seen(task: DenseTask, sample) -> _Seen | None:
    """None without ground truth."""
    target = sample.get(task.field)
    if target is None:
        return None
    truth, found = task.to_map(target.data), task.predicted_map(sample)
    errors = pixel_errors(task, found, truth)
    error = mean_error(errors)
    return None if error is None else _Seen(error, sample.img_path, truth, found, errors)


def _rows(task: DenseTask, worst: list[_Seen], whose: str, picture_of: Callable[[str], np.ndarray]) -> list[Row]:
    most, rows = error_scale(task, [seen.errors for seen in worst]), []
    for seen in worst:
        name = Path(seen.path).name
        pictures = [
            photo(picture_of(seen.path), 'image', f'test image {name}'),
            map_picture(task, seen.truth, 'ground truth', name),
            map_picture(task, seen.found, f'prediction of {whose}', name),
            flat(error_colours(task, seen.errors, most), 'error', f'error in {name}: {in_words(task, seen.error)}'),
        ]
        legends = [legend(task, [seen.truth, seen.found]), error_legend(task, most)]
        rows.append(Row(name, [in_words(task, seen.error)], pictures, legends))
    return rows
