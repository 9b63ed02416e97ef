"""Looks at a spread of image and label files before a long training starts; `dataset_report` looks at all of them."""

import logging
from collections.abc import Iterable, Mapping

from mmengine.config import Config
from mmengine.logging import print_log

from mmdiff2in1.tasks import DenseTask

from .labels import LabelRules
from .maps import judge_maps
from .pair import LABEL_KEY, TASKS, inspect_pair, label_keys
from .parts import data_parts, head_settings, spread
from .problem import Problem

ALL_OF_IT = 'tools/check_dataset.py CONFIG looks at all files'


def check_labels(
    dataset, num_classes: int | None, name: str, most: int = 64, tasks: Mapping[str, DenseTask] = TASKS
) -> int:
    """Reads up to ``most`` pairs, evenly spread over ``dataset``.

    Args:
        dataset: A segmentation dataset with ``get_data_info``.
        num_classes: Of the decode head; None: it has none, or nobody knows.
        name: What the errors call it.
        most: Pairs read; all files of a large set are not.
        tasks: Label key → what belongs into depth and normal files.

    Returns:
        Pairs read.

    Raises:
        ValueError: A file that is missing or cannot be read, a label of another size than its image, or label values
            that are neither a class nor the ignore index, or no depth or normals; with the file, what was found and
            what was expected. Maps that fit another frame or unit better are a warning in the log.
    """
    indices = spread(len(dataset), most)
    rules = LabelRules.of(dataset, num_classes)
    infos = [dataset.get_data_info(index) for index in indices]
    facts = []
    for info in infos:
        if not label_keys(info):
            return 0
        facts.append(inspect_pair(info, rules, tasks))
        _refuse(facts[-1].problems, name)
    _, problems = judge_maps(facts, infos, getattr(dataset, 'data_prefix', {}))
    _refuse(problems, name)
    for problem in problems:
        print_log(f'{name}: {problem} ({ALL_OF_IT})', 'current', logging.WARNING)
    return len(indices)


def _refuse(problems: Iterable[Problem], name: str) -> None:
    errors = [problem for problem in problems if problem.severity == 'error']
    if errors:
        raise ValueError(f'{name}: {errors[0]} ({ALL_OF_IT})')


def check_data(cfg: Config) -> None:
    """:func:`check_labels` for the sets of a config: one with a ``SelfImprovingSegmentor``, or mmseg's own.

    Raises:
        FileNotFoundError: A folder or split file is not there, or a set is empty; with the command that makes it.
        ValueError: A set cannot be listed, or see :func:`check_labels`.
    """
    num_classes = head_settings(cfg).get('num_classes')
    for part in data_parts(cfg):
        if part.problems:
            missing = part.problems[0].check.startswith('missing')
            raise (FileNotFoundError if missing else ValueError)(f'{part.name}: {part.problems[0]}')
        labels = label_keys(part.dataset.get_data_info(0)) if hasattr(part.dataset, 'ignore_index') else []
        if labels and (num_classes is not None or labels[0] != LABEL_KEY):
            check_labels(part.dataset, num_classes, part.name, tasks=part.tasks)
