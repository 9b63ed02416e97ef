"""Which label files the pipeline of a data set loads, and what belongs into them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmseg.registry import TASK_UTILS, TRANSFORMS

from mmdiff2in1.core.image_loading import AS_READ
from mmdiff2in1.datasets.transforms import EdgesFromClasses, LoadClassAnnotation, LoadDenseAnnotation
from mmdiff2in1.tasks import DenseTask, Edges, SemanticSegmentation
from mmdiff2in1.tasks.task_set import built_task

LABEL_KEY = SemanticSegmentation.path_key


@dataclass(frozen=True)
class LoadedLabel:
    """A label that a pipeline loads.

    `key`: of its file in a data info. `task`: None for classes as mmseg loads them, of which `LabelRules` knows the raw
    values. `optional`: an image without a file gets a map that says nothing; else the training stops at it. `backend`:
    of mmcv, by which classes are read.
    """

    name: str
    key: str
    optional: bool
    task: DenseTask | None = None
    backend: str = 'pillow'


def loaded_labels(pipeline: Sequence[Mapping] | None) -> list[LoadedLabel]:
    """Labels that the steps of a pipeline load, those inside other steps too; empty where nobody knows."""
    found: dict[str, LoadedLabel] = {}
    for step in _steps(pipeline or []):
        label = _loaded_by(step)
        if label is not None:
            found[label.name] = label
    return list(found.values())


def loaded_twice(pipeline: Sequence[Mapping] | None) -> list[str]:
    """Names of the labels that more than one step of a pipeline loads; alternatives inside of a step do not count."""
    steps = (step for step in pipeline or [] if isinstance(step, Mapping) and not step.get('transforms'))
    names = Counter(label.name for label in map(_loaded_by, steps) if label is not None)
    return [name for name, count in names.items() if count > 1]


def other_readings(pipeline: Sequence[Mapping] | None) -> list[tuple[str, Any]]:
    """Settings by which a pipeline decodes images in another way than `core.images.read_image`: (key, value)."""
    found = []
    for step in _steps(pipeline or []):
        kind = step.get('type')
        kind = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
        if isinstance(kind, type) and issubclass(kind, LoadImageFromFile):
            found += [(key, step[key]) for key, value in AS_READ.items() if step.get(key, value) not in (value, None)]
    return found


def fields_made(pipeline: Sequence[Mapping] | None) -> set[str] | None:
    """Keys of the label files whose fields the steps of a pipeline make; None: nobody knows (others' steps)."""
    if pipeline is None:
        return None
    keys = {label.key for label in loaded_labels(pipeline)}
    for step in _steps(pipeline):
        kind = step.get('type')
        kind = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
        if getattr(kind, '__module__', '').split('.')[0] not in ('mmdiff2in1', 'mmseg', 'mmcv', 'mmengine'):
            return None
        if kind is EdgesFromClasses:
            keys.add(Edges.path_key)
    return keys


def tasks_to_check(loaded: Sequence[LoadedLabel]) -> dict[str, DenseTask]:
    """Task name → what belongs into its label files: as they are loaded, and of other files the task with its defaults.

    Each registered task that can be built without arguments counts, the first one for each kind of file; files of
    classes are `LabelRules`' unless a task loads them.
    """
    tasks = {label.name: label.task for label in loaded if label.task is not None}
    taken = {LABEL_KEY, *(task.path_key for task in tasks.values())}
    for kind in _registered():
        if kind.path_key in taken:
            continue
        try:
            tasks[kind.name] = kind()
        except TypeError:  # it needs settings
            continue
        taken.add(kind.path_key)
    return tasks


def holds_classes(loaded: Sequence[LoadedLabel]) -> bool:
    """True if class labels are read as mmseg reads them: they are loaded so, or nobody says how."""
    here = [label for label in loaded if label.key == LABEL_KEY]
    return any(label.task is None for label in here) if here else True


def class_backend(loaded: Sequence[LoadedLabel]) -> str:
    """Which backend of mmcv reads the class labels."""
    return next((label.backend for label in loaded if label.key == LABEL_KEY and label.task is None), 'pillow')


def label_keys(info: Mapping) -> list[str]:
    """Keys of the label files that a sample has."""
    return [key for key in info if key.endswith('_map_path') and info[key] is not None]


def _registered() -> Iterable[type[DenseTask]]:
    kinds = TASK_UTILS.module_dict.values()
    return (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, DenseTask))


def _steps(pipeline: Any) -> Iterable[Mapping]:
    """All transforms of a pipeline: RandomChoice and others hold further ones, in lists or lists of lists."""
    for step in pipeline:
        if isinstance(step, Mapping):
            yield step
            inner = step.get('transforms') or []
            yield from _steps([inner] if isinstance(inner, Mapping) else inner)
        elif isinstance(step, Sequence) and not isinstance(step, str):
            yield from _steps(step)


def _loaded_by(step: Mapping) -> LoadedLabel | None:
    loader = step.get('type')
    loader = TRANSFORMS.get(loader) if isinstance(loader, str) else loader
    if not isinstance(loader, type):
        return None
    if issubclass(loader, LoadDenseAnnotation):
        task = built_task(step['task'])
        return LoadedLabel(task.name, task.path_key, True, task)
    if issubclass(loader, LoadAnnotations):
        backend = step.get('imdecode_backend', 'pillow')
        return LoadedLabel(SemanticSegmentation.name, LABEL_KEY, issubclass(loader, LoadClassAnnotation), None, backend)
    read = (kind.of_loader(loader, step) for kind in _registered())
    task = next((task for task in read if task is not None), None)
    return None if task is None else LoadedLabel(task.name, task.path_key, False, task)
