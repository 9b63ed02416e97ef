"""What the data of a loader are, wherever they lie: the names of all files, and what is in the label files."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from mmdiff2in1.checks.parts import DataPart, data_parts

from .file_digests import digests_of

IMAGE = 'img_path'


def data_mark(loader: Mapping) -> str:
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
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()


def _listed_only(config: object) -> Any:
    """A loader's config without pipelines: nothing is read through them."""
    if isinstance(config, Mapping):
        return {key: [] if key == 'pipeline' else _listed_only(value) for key, value in config.items()}
    return [_listed_only(each) for each in config] if isinstance(config, list | tuple) else config


def _mark(part: DataPart) -> list:
    dataset = part.dataset
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    folders = getattr(dataset, 'data_prefix', None) or {}
    root = getattr(dataset, 'data_root', None) or ''
    marks = []
    for key in sorted({key for info in infos for key, value in info.items() if _is_path(key, value)}):
        folder = folders.get(key)
        folder = folder if isinstance(folder, str) and folder else root
        files = [info.get(key) or '' for info in infos]
        marks.append([key, [_below(file, folder, root) for file in files]])
        if key != IMAGE:
            marks.append(digests_of(files, folder))
    return marks


def _is_path(key: str, value: object) -> bool:
    return key.endswith('_path') and isinstance(value, str)


def _below(file: str, *folders: str) -> str:
    """Name of a file below the first of the folders that holds it; without one its last name."""
    for folder in folders:
        if folder and file.startswith(folder := os.path.join(folder, '')):
            return file.removeprefix(folder)
    return os.path.basename(file)
