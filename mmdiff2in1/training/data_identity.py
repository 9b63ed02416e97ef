"""Identity of a loader's data, wherever it lies: the names of all files, and what is in the label files."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmdiff2in1.checks.parts import DataPart, data_parts

from .file_digests import digests_of

IMAGE = 'img_path'


@dataclass(frozen=True)
class DataFacts:
    """`mark`: the identity of data. `parts`: for each data set by the keys of its files how many there are, and digests
    of their names and of what is in them."""

    mark: str
    parts: list[dict[str, dict[str, Any]]]


def data_facts(loader: Mapping) -> DataFacts:
    """Identity of the data of a loader's config.

    Counted are the names of images and labels below their folders, in their order, and size and sampled content of
    each label file. A copy in another place has the same mark; a label that is edited, another split and a file more
    have another one. What is in the images is not looked at: it is labels that are corrected.

    Raises:
        ValueError: A set that cannot be listed.
    """
    marks = []
    for part in data_parts({'train_dataloader': _listed_only(loader)}):
        if part.problems or part.dataset is None:
            raise ValueError(f'the data set cannot be listed: {part.problems[0]}')
        if hasattr(part.dataset, 'get_data_info'):
            marks.append(_mark(part))
    parts = []
    for mark in marks:
        facts: dict[str, dict[str, Any]] = {}
        for key, names, *content in mark:
            facts[key] = dict(files=len(names), names=_digest(names))
            facts[key] |= dict(content=_digest(content)) if content else {}
        parts.append(facts)
    plain = [[part for key, names, *content in mark for part in ([key, names], *content)] for mark in marks]
    return DataFacts(_digest(plain), parts)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _listed_only(config: object) -> Any:
    """A loader's config without pipelines: nothing is read through them."""
    if isinstance(config, Mapping):
        return {key: [] if key == 'pipeline' else _listed_only(value) for key, value in config.items()}
    return [_listed_only(each) for each in config] if isinstance(config, list | tuple) else config


def _mark(part: DataPart) -> list:
    """Key, names, and of labels the digests, of each kind of file."""
    dataset = part.dataset
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    folders = getattr(dataset, 'data_prefix', None) or {}
    root = getattr(dataset, 'data_root', None) or ''
    marks = []
    for key in sorted({key for info in infos for key, value in info.items() if _is_path(key, value)}):
        folder = folders.get(key)
        folder = folder if isinstance(folder, str) and folder else root
        files = [info.get(key) or '' for info in infos]
        content = [] if key == IMAGE else [digests_of(files, folder)]
        marks.append([key, [_below(file, folder, root) for file in files], *content])
    return marks


def _is_path(key: str, value: object) -> bool:
    return key.endswith('_path') and isinstance(value, str)


def _below(file: str, *folders: str) -> str:
    """Name of a file below the first of the folders that holds it; without one its last name."""
    for folder in folders:
        if folder and file.startswith(folder := os.path.join(folder, '')):
            return file.removeprefix(folder)
    return os.path.basename(file)
