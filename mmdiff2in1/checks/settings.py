"""Fields of a config that must agree with its data sets: numbers of classes, ignored index, zero-label reduction.

K: classes.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence

from mmdiff2in1.core.names import type_name
from mmdiff2in1.core.problem import Problem
from mmdiff2in1.datasets import SyntheticSampleDataset
from mmdiff2in1.tasks import SemanticSegmentation, TaskSet

from .loading import LABEL_KEY
from .parts import LOADERS, DataPart


def class_head(cfg: Mapping) -> Mapping:
    """Settings of the head that predicts classes, `num_classes` and `ignore_index` as far as they are set.

    That is the segmentor's, or the last of a cascade, without wrappers; of a model with several tasks the one for
    classes. Empty without a model, and where no classes are predicted.
    """
    model = cfg.get('model') or {}
    head = (model.get('segmentor') or model).get('decode_head') or {}
    return _class_head(head[-1] if isinstance(head, list) else head, model_tasks(cfg))


def model_tasks(cfg: Mapping) -> TaskSet | None:
    """The tasks that the model names; None without a model, and where it is mmseg's, of classes."""
    model = cfg.get('model') or {}
    tasks = (model.get('segmentor') or model).get('task') or model.get('task')
    return TaskSet(tasks) if tasks else None


def setting_problems(cfg: Mapping, parts: Sequence[DataPart]) -> list[Problem]:
    """Settings that contradict sets with class labels; a config without a model is checked as far as it goes."""
    head = class_head(cfg)
    found = {str(problem): problem for problem in wrapper_problems(cfg)}
    for part in parts:
        if part.dataset is None or LABEL_KEY not in getattr(part.dataset, 'data_prefix', {}):
            continue
        if part.loaded and not any(label.key == LABEL_KEY for label in part.loaded):
            continue
        for problem in (*_head(head, part), *_evaluator(cfg, part), *_reduction(part)):
            found[str(problem)] = problem
    return list(found.values())


def wrapper_problems(cfg: Mapping) -> list[Problem]:
    """Keys that a SyntheticSampleDataset does not have: they are meant for the data set inside of it."""
    problems = []
    for loader in LOADERS:
        dataset = (cfg.get(f'{loader}_dataloader') or {}).get('dataset') or {}
        if type_name(dataset) != SyntheticSampleDataset.__name__:
            continue
        known = set(inspect.signature(SyntheticSampleDataset).parameters)
        for key in sorted(set(dataset) - known - {'type', '_scope_'}):
            where = f'{loader}_dataloader.dataset'
            step = f'For the data set inside of the wrapper: {where}.dataset.{key}'
            expected = f'one of {", ".join(sorted(known))}'
            problems.append(Problem('error', 'unknown-key', f'{where}.{key}', f'the key {key!r}', expected, step))
    return problems


def _class_head(head: Mapping, tasks: TaskSet | None) -> Mapping:
    if 'head' in head and 'task' not in head:
        return _class_head(head['head'], tasks)
    own = head.get('tasks') or head.get('task')
    tasks = TaskSet(own) if own else tasks
    if tasks is None:
        return head
    for name, task in tasks.items():
        if isinstance(task, SemanticSegmentation) and task.field == SemanticSegmentation.field:
            if 'heads' in head:
                return _class_head(head['heads'].get(name) or {}, TaskSet({name: task}))
            if len(tasks) == 1 and 'num_classes' in head:
                return head
            return dict(num_classes=task.num_classes, ignore_index=task.ignore_index)
    return {}


def _head(head: Mapping, part: DataPart) -> Iterable[Problem]:
    kind, K = part.cfg['type'], len(part.dataset.metainfo.get('classes') or ())
    found = head.get('num_classes')
    if K == found == 1:
        step = "Name both in metainfo, e.g. classes=('background', 'pond')"
        expected = 'two names, of background and foreground: mIoU over one name counts every pixel as right'
        yield Problem('warning', 'num-classes', f'metainfo of {kind}', 'one class', expected, step)
    elif K and found not in (None, K) and (found, K) != (1, 2):  # of mmseg's one class, labels hold 0 and 1
        step = f'Set decode_head.num_classes={K} (and the auxiliary heads)'
        if found > K:
            step += f'; if the labels hold {found} classes, name all of them in metainfo'
        yield _error('num-classes', 'decode_head.num_classes', found, f'{K}, the classes of {kind}', step)
    ignored, theirs = head.get('ignore_index', 255), getattr(part.dataset, 'ignore_index', 255)
    if _is_unlearned(ignored, head, part):
        classes = part.dataset.metainfo.get('classes') or ()
        name = f', {classes[ignored]!r},' if ignored < len(classes) else ''
        step = 'Nothing, if that class means "not labelled"; else leave ignore_index out of the heads'
        expected = f'that class {ignored}{name} is to be learned by nobody'
        yield Problem('warning', 'ignore-index', 'decode_head.ignore_index', str(ignored), expected, step)
    elif head and ignored != theirs:
        step = (
            f'Set ignore_index={theirs} in the decode head (and the auxiliary heads), or ignore_index of the data set'
        )
        expected = f'{theirs}, the ignore_index of {kind}: the loss would take it for a class'
        yield _error('ignore-index', 'decode_head.ignore_index', ignored, expected, step)


def _evaluator(cfg: Mapping, part: DataPart) -> Iterable[Problem]:
    theirs = getattr(part.dataset, 'ignore_index', 255)
    for loader in {part.loader, *part.shared_by} - {'train'}:
        evaluators = cfg.get(f'{loader}_evaluator') or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            found = evaluator.get('ignore_index', 255)
            head = class_head(cfg)
            unlearned = found == head.get('ignore_index') and _is_unlearned(found, head, part)
            if evaluator.get('type') == 'IoUMetric' and found != theirs and not unlearned:
                step = f'Set ignore_index={theirs} in {loader}_evaluator'
                expected = f'{theirs}, the ignore_index of {part.cfg["type"]}: ignored pixels would lower the score'
                yield _error('ignore-index', f'{loader}_evaluator.ignore_index', found, expected, step)


def _is_unlearned(index: int | None, head: Mapping, part: DataPart) -> bool:
    """True if an ignored index is one of the head's classes, as in mmseg's HSI-Drive; zero-label reduction frees 0."""
    reduced = bool(getattr(part.dataset, 'reduce_zero_label', False))
    return index is not None and index < (head.get('num_classes') or 0) and not reduced


def _reduction(part: DataPart) -> Iterable[Problem]:
    theirs = bool(getattr(part.dataset, 'reduce_zero_label', False))
    if theirs and any(label.key == LABEL_KEY and label.task is not None for label in part.loaded):
        step = "Load the classes with dict(type='LoadClassAnnotation'), which reduces them"
        expected = 'False: LoadDenseAnnotation takes the numbers of the classes as the file has them'
        yield _error('reduce-zero-label', f'reduce_zero_label of {part.cfg["type"]}', theirs, expected, step)
    for transform in part.cfg.get('pipeline') or []:
        asked = transform.get('reduce_zero_label') if isinstance(transform, Mapping) else None
        if asked is not None and bool(asked) != theirs:
            step = 'Leave reduce_zero_label out of the pipeline and set it in the data set alone'
            expected = f'{theirs}, as the data set says: mmseg stops at the first image'
            where = f'{part.loader}_dataloader: {transform["type"]}.reduce_zero_label'
            yield _error('reduce-zero-label', where, asked, expected, step)


def _error(check: str, field: str, found: object, expected: str, step: str) -> Problem:
    return Problem('error', check, field, str(found), expected, step)
