"""The data sets of a config, unwrapped, and what each of them lacks before it can be listed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS

from mmdiff2in1.core.building import explained
from mmdiff2in1.core.problem import Problem
from mmdiff2in1.tasks import DenseTask

from .image_lists import list_faults
from .known_sets import known_set
from .labels import LabelRules
from .loading import LoadedLabel, class_backend, holds_classes, loaded_labels, tasks_to_check

LOADERS = ('train', 'val', 'test')


@dataclass
class DataPart:
    """One data set with files of its own. `name` is `train`, or `train 2` for the second of several; `dataset` is None
    where it could not be built or listed, and `problems` says why. `shared_by`: loaders that have the same set."""

    name: str
    loader: str
    cfg: Mapping
    dataset: BaseDataset | None = None
    problems: list[Problem] = field(default_factory=list)
    shared_by: list[str] = field(default_factory=list)

    @cached_property
    def loaded(self) -> list[LoadedLabel]:
        """The labels that its pipeline loads; empty where nobody knows."""
        return loaded_labels(self.cfg.get('pipeline'))

    @cached_property
    def tasks(self) -> dict[str, DenseTask]:
        """Name → what belongs into its label files, classes as mmseg loads them apart."""
        return tasks_to_check(self.loaded)

    def rules(self, num_classes: int | None) -> LabelRules | None:
        """For the class labels as mmseg loads them; None: it loads none so.

        Where the head's `num_classes` and the number of class names differ, the larger counts: that they differ is one
        finding of the config, not one of every label.
        """
        if not holds_classes(self.loaded):
            return None
        most = max(num_classes or 0, len(self.dataset.metainfo.get('classes') or ()))
        return LabelRules.of(self.dataset, most, class_backend(self.loaded))


def data_parts(cfg: Mapping) -> list[DataPart]:
    """The data sets of the three loaders, listed: inside `SyntheticSampleDataset` and mmengine's wrappers, in order.

    One that two loaders share (a val part that is also the test) comes once, as `val, test`.
    """
    parts: list[DataPart] = []
    for loader in LOADERS:
        loader_cfg = cfg.get(f'{loader}_dataloader')
        leaves = _leaves(loader_cfg['dataset']) if loader_cfg else []
        for number, leaf in enumerate(leaves, 1):
            scored = (part for part in parts if part.loader not in ('train', loader))
            same = next((part for part in scored if _files(part.cfg) == _files(leaf)), None)
            if same is not None:
                same.name += f', {loader}'
                same.shared_by.append(loader)
                continue
            parts.append(DataPart(loader if len(leaves) == 1 else f'{loader} {number}', loader, leaf))
    for part in parts:
        _list(part)
    return parts


def missing_places(dataset: BaseDataset) -> list[Problem]:
    """Folders and split file that a dataset names and that are not there."""
    if getattr(dataset, 'backend_args', None):
        return []
    root = dataset.data_root or ''
    obtain = known_set(dataset).obtain.format(root=root) or 'Put the files there, or correct data_root or data_prefix'
    problems = []
    for key, folder in dataset.data_prefix.items():
        if key.endswith('_path') and folder and not Path(folder).is_dir():
            expected = f'a folder, data_prefix.{key} of {type(dataset).__name__}'
            problems.append(Problem('error', 'missing-folder', str(folder), _nearest(folder), expected, obtain))
    split = getattr(dataset, 'ann_file', '')
    if split and not Path(split).exists():
        expected = f'a split file, ann_file of {type(dataset).__name__}'
        problems.append(Problem('error', 'missing-split', split, _nearest(split), expected, _make_split(dataset)))
    elif split and Path(split).is_dir():  # mmseg would list all images instead
        expected = f'a split file, ann_file of {type(dataset).__name__}'
        problems.append(Problem('error', 'split-is-a-folder', split, 'a folder', expected, _make_split(dataset)))
    return problems


def spread(length: int, most: int | None) -> list[int]:
    """At most `most` indices below `length`, evenly spread; None: all."""
    if most is None or most >= length:
        return list(range(length))
    return sorted({round(i) for i in np.linspace(0, length - 1, most)})


def _leaves(cfg: Mapping) -> list[Mapping]:
    """Dataset configs inside wrappers: `dataset` of one, `datasets` of several."""
    if cfg.get('datasets') is not None:
        return [leaf for inner in cfg['datasets'] for leaf in _leaves(inner)]
    return _leaves(cfg['dataset']) if cfg.get('dataset') is not None else [cfg]


def _files(cfg: Mapping) -> dict:
    return {key: value for key, value in cfg.items() if key not in ('pipeline', 'test_mode', 'lazy_init')}


def _list(part: DataPart) -> None:
    """Builds the dataset of a part and reads its list, unless something is missing."""
    kind = DATASETS.get(part.cfg['type']) if isinstance(part.cfg['type'], str) else part.cfg['type']
    later = isinstance(kind, type) and issubclass(kind, BaseDataset)
    try:
        dataset = DATASETS.build({**part.cfg, 'lazy_init': True} if later else dict(part.cfg))
        part.problems += [*missing_places(dataset), *list_faults(dataset)] if later else []
        if part.problems:
            return
        if later:
            dataset.check_files = False  # of our own sets: each missing file is to be named
            dataset.serialize_data = False  # it serves worker processes, and fails on an empty list
            dataset.full_init()
        part.problems += [] if len(dataset) else [_empty(dataset)]
        part.dataset = dataset if len(dataset) else None
    except Exception as error:  # a dataset class of anybody's
        part.problems.append(_not_built(part, error))


def _empty(dataset: BaseDataset) -> Problem:
    prefix, suffix = getattr(dataset, 'data_prefix', {}), getattr(dataset, 'img_suffix', '')
    step = 'Correct the folder, img_suffix or the split file'
    found = f'no images that end in {suffix}'
    return Problem('error', 'missing-images', str(prefix.get('img_path', '')), found, 'at least one', step)


def _not_built(part: DataPart, error: Exception) -> Problem:
    where = f'{part.loader}_dataloader.dataset ({part.cfg["type"]})'
    step = 'Correct the config, or the files that the message names'
    found = explained(error, part.cfg)
    expected = '' if 'expected' in found else 'a data set that can be listed'
    return Problem('error', 'not-built', where, found, expected, step)


def _nearest(path: str | Path) -> str:
    """The deepest folder above `path` that exists, and its first entries."""
    parent = next(folder for folder in Path(path).absolute().parents if folder.is_dir())
    inside = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith('.'))
    shown = ', '.join(inside[:6]) + (', …' if len(inside) > 6 else '') or 'nothing'
    return f'nothing there; {parent} is the nearest folder and holds {shown}'


def _make_split(dataset: BaseDataset) -> str:
    split = Path(dataset.ann_file)
    match = re.fullmatch(r'([\d.]+)(pct|images)-seed(\d+)', split.stem)
    if match is None:
        return 'Correct ann_file, or draw a split with tools/dataset_converters/make_splits.py'
    flag = '--percent' if match.group(2) == 'pct' else '--count'
    return (
        f'Make it: python tools/dataset_converters/make_splits.py {dataset.data_prefix["img_path"]} '
        f'{flag} {match.group(1)} --seed {match.group(3)} --suffix {dataset.img_suffix} --out {split.parent}'
    )
