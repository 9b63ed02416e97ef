"""Check that data sets give the labels that pipelines load: a misspelt key of `data_prefix` shows nowhere else."""

from collections.abc import Iterable, Sequence

from mmdiff2in1.core.problem import Problem

from .loading import LoadedLabel, label_keys, loaded_twice
from .parts import DataPart


def label_problems(parts: Sequence[DataPart]) -> list[Problem]:
    """Labels that are loaded and not given.

    A loader that fills in for a missing file, so that sets with different tasks can be mixed, needs one training set
    that gives the files of its task; mmseg's own need all of them. A set for evaluation must give some labels.
    """
    problems = []
    train = [part for part in parts if part.loader == 'train']
    if all(part.dataset is not None for part in train):  # what is missing in the others is told already
        problems += _training(train)
    for part in parts:
        problems += _repeated(part)
        if part.dataset is not None:
            problems += _stopping(part)
            problems += _evaluation(part) if part.loader != 'train' else []
    return problems


def _training(parts: Sequence[DataPart]) -> Iterable[Problem]:
    loaded = {label.name: label for part in parts for label in part.loaded}
    for label in loaded.values():
        loading = [part for part in parts if label.name in {other.name for other in part.loaded}]
        if not any(_gives(part, label.key) for part in loading):
            yield _problem('error', label, loading, 'at least one training set')
    for part in parts:
        keys = {label.key for label in part.loaded}
        if not keys and not _given(part):
            step = 'Name the label folder in data_prefix, e.g. seg_map_path'
            yield Problem(
                'error', 'no-labels', _place(part), 'a training set without labels', 'a label per image', step
            )
        elif keys and len(parts) > 1 and not any(_gives(part, key) for key in keys):
            found = f'{_named(part)}, of what the pipeline loads nothing'
            step = 'Nothing is learnt from these images themselves; fine if only created ones are to be taught'
            yield Problem('warning', 'no-labels', _place(part), found, ' or '.join(sorted(keys)), step)


def _repeated(part: DataPart) -> Iterable[Problem]:
    for name in loaded_twice(part.cfg.get('pipeline')):
        step = f'Take the second step that loads {name} out of the pipeline: a mirror would turn its map twice'
        yield Problem('error', 'loaded-twice', _place(part), f'{name} loaded twice', 'one step that loads it', step)


def _stopping(part: DataPart) -> Iterable[Problem]:
    for label in part.loaded:
        if not label.optional and not _gives(part, label.key):
            yield _problem('error', label, [part], 'each set: mmseg stops at an image without it')


def _evaluation(part: DataPart) -> Iterable[Problem]:
    lacking = [label for label in part.loaded if label.optional and not _gives(part, label.key)]
    for label in lacking:
        severity = 'error' if len(lacking) == len(part.loaded) else 'warning'
        yield _problem(severity, label, [part], 'a set that is scored on it')


def _problem(severity: str, label: LoadedLabel, parts: Sequence[DataPart], whom: str) -> Problem:
    found = f'no {label.key} in any sample of {", ".join(_named(part) for part in parts)}; {label.name} is loaded'
    step = (
        f'Give the folder of the label files as data_prefix.{label.key} (is the key misspelt?), or take the step that '
        f'loads {label.name} out of the pipeline'
    )
    return Problem(severity, 'no-labels', _place(parts[0]), found, f'{label.key} from {whom}', step)


def _gives(part: DataPart, key: str) -> bool:
    return any(part.dataset.get_data_info(index).get(key) is not None for index in range(len(part.dataset)))


def _given(part: DataPart) -> list[str]:
    """Keys of the label files of a set's first sample."""
    return label_keys(part.dataset.get_data_info(0))


def _named(part: DataPart) -> str:
    kind = part.cfg['type']
    return f'{part.name} ({getattr(kind, "__name__", kind)}, gives {", ".join(_given(part)) or "no labels"})'


def _place(part: DataPart) -> str:
    return f'{part.loader}_dataloader'
