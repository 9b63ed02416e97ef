"""Scores of trained models on the validation set of a config, whatever they are: a teacher, several, a student.

S images of a batch; C channels of an output; h, w: an image as the test pipeline gives it.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor
from tqdm import tqdm

from mmdiff2in1.core.building import building
from mmdiff2in1.engine.short_console import shorten_console
from mmdiff2in1.evaluation import build_evaluator
from mmdiff2in1.evaluation.delta_mtl import lower_is_better
from mmdiff2in1.models.self_improving import Teachers
from mmdiff2in1.tasks import TaskSet

from .runs import numbers

DEFAULT = dict(
    semantic_segmentation='mIoU',
    depth='rmse',
    normal='mean',
    human_parts='mIoU',
    saliency='maxF',
    edge='odsF',
)
"""The figure of a task that one number is taken from; metrics of this package put the task before it."""


def scores(cfg: Config, teachers: Teachers, student: Any, title: str) -> dict[str, float]:
    """Metrics of `val_evaluator` on all images of `val_dataloader`, of the mean of some models in their views.

    Each model sees the images of the student's test pipeline through its own data preprocessor; predictions are written
    as the student writes them, so the evaluator of the config reads them all.

    Args:
        cfg: The student's config, with a validation set.
        teachers: Who predicts.
        student: The student's segmentor, which is asked for the form of its predictions alone.
        title: Of the progress bar.
    """
    shorten_console(MMLogger.get_current_instance())
    loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    evaluator = build_evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    for batch in tqdm(loader, desc=title, unit='batch'):
        samples = batch['data_samples']
        for place, output in enumerate(_outputs(teachers, batch['inputs'], samples)):
            (found,) = student.postprocess_result(output.cpu(), [samples[place]])
            evaluator.process([found], batch)
    return numbers(evaluator.evaluate(len(loader.dataset)))


def evaluator_of(cfg: Config, part: str) -> Evaluator:
    """What gives the figures of `val` or `test`, to be asked for their names.

    Raises:
        ValueError: It cannot be built, with its place in the config.
    """
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    shorten_console(MMLogger.get_current_instance())  # of metrics without a prefix, which is no fault
    with building(cfg):
        return build_evaluator(cfg[f'{part}_evaluator'])


@torch.no_grad()
def _outputs(teachers: Teachers, images: Sequence[Tensor], samples: Sequence) -> list[Tensor]:
    """Outputs (1, C, h, w); images of one size are seen together."""
    places = defaultdict(list)
    for place, image in enumerate(images):
        places[image.shape].append(place)
    found: dict[int, Tensor] = {}
    for own in places.values():
        pixels = torch.stack([images[place] for place in own]).float().to(get_device())
        outputs = teachers.outputs(pixels, [samples[place].metainfo for place in own])
        found |= zip(own, outputs.split(1), strict=True)
    return [found[place] for place in range(len(images))]


def chosen_metric(metrics: dict[str, float], tasks: TaskSet, asked: str | None = None) -> str:
    """The name of the one number that is compared.

    Raises:
        ValueError: The evaluator does not give it.
    """
    task = next(iter(tasks.values())).name
    figure = DEFAULT.get(task, next(iter(metrics), ''))
    names = [asked] if asked else [f'{task}/{figure}', figure]
    found = [name for name in names if name in metrics]
    if not found:
        raise ValueError(
            f'val_evaluator gives no {names[-1]!r}; found {", ".join(metrics) or "nothing"}: name one of them'
        )
    return found[0]


def better_by(name: str, score: float, other: float) -> float:
    """By how much a score is better than another: negative where it is worse."""
    return other - score if lower_is_better(name) else score - other
