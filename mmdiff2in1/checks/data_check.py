"""Looks at a spread of image and label files before a long training starts; `check_datasets` looks at all of them."""

import logging
from collections.abc import Iterable, Sequence

from mmengine.config import Config
from mmengine.logging import print_log

from mmdiff2in1.core.image_loading import own_loader
from mmdiff2in1.core.problem import Problem

from .config_check import config_problems
from .files import no_images
from .image_lists import leading_nowhere
from .labels import LabelRules
from .loading import LoadedLabel, class_backend, holds_classes, label_keys, tasks_to_check
from .pair import inspect_pair, judge_maps
from .parts import data_parts, spread
from .settings import class_head, wrapper_problems

ALL_OF_IT = 'mmdiff2in1 check CONFIG looks at all files'


def check_labels(
    dataset, num_classes: int | None, name: str, most: int = 64, loaded: Sequence[LoadedLabel] = ()
) -> int:
    """Reads up to ``most`` pairs, evenly spread over ``dataset``.

    Args:
        dataset: A segmentation dataset with ``get_data_info``.
        num_classes: Of the decode head; None: it has none, or nobody knows.
        name: What the errors call it.
        most: Pairs read; all files of a large set are not.
        loaded: Labels that the training loads: only these are read; none: all that there are.

    Returns:
        Pairs read; images without a label are not.

    Raises:
        ValueError: A file that is missing or cannot be read, a label of another size than its image, or values that
            its task does not have; with the file, what was found and what was expected. What only looks wrong, as
            maps that fit another frame or unit better do, is a warning in the log.
    """
    tasks = tasks_to_check(loaded)
    rules = LabelRules.of(dataset, num_classes, class_backend(loaded)) if holds_classes(loaded) else None
    read = {label.key for label in loaded}
    facts, infos, loader = [], [], own_loader(dataset)
    for index in spread(len(dataset), most):
        info = dataset.get_data_info(index)
        info = {key: value for key, value in info.items() if not read or key in read or key not in label_keys(info)}
        if 'img_path' not in info:
            continue
        fact = inspect_pair(info, rules, tasks, loader)
        _refuse(fact.problems, name)
        if label_keys(info):
            infos.append(info)
            facts.append(fact)
    _, problems = judge_maps(facts, infos, tasks, getattr(dataset, 'data_prefix', {}))
    _refuse(problems, name)
    _warn(problems, name)
    return len(facts)


def check_data(cfg: Config) -> None:
    """:func:`check_labels` for the sets of a config, and whether they give what their pipelines load.

    Raises:
        FileNotFoundError: A folder or split file is not there, or a set is empty; with the command that makes it.
        ValueError: A set cannot be listed, it and the config disagree (:func:`config_problems`), or see
            :func:`check_labels`.
    """
    _refuse(wrapper_problems(cfg), 'config')
    parts, num_classes = data_parts(cfg), class_head(cfg).get('num_classes')
    for part in parts:
        if part.problems:
            missing = part.problems[0].check.startswith('missing')
            raise (FileNotFoundError if missing else ValueError)(f'{part.name}: {part.problems[0]}')
    problems = config_problems(cfg, parts)
    _refuse(problems, 'config')
    _warn(problems, 'config')
    for part in parts:
        _refuse(no_images(part.dataset), part.name)
        infos = [part.dataset.get_data_info(index) for index in range(len(part.dataset))]
        _refuse(leading_nowhere(part.dataset, infos).values(), part.name)
        if hasattr(part.dataset, 'ignore_index'):
            check_labels(part.dataset, num_classes, part.name, loaded=part.loaded)


def _refuse(problems: Iterable[Problem], name: str) -> None:
    errors = [problem for problem in problems if problem.severity == 'error']
    if errors:
        raise ValueError(f'{name}: {errors[0]} ({ALL_OF_IT})')


def _warn(problems: Iterable[Problem], name: str) -> None:
    for problem in problems:
        print_log(f'{name}: {problem} ({ALL_OF_IT})', 'current', logging.WARNING)
