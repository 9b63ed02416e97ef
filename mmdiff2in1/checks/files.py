"""Files in the folders of a data set against its list: what is there and not used, what is used and not there."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmdiff2in1.core.folders import files_below, images_below, no_files
from mmdiff2in1.core.problem import Problem

from .image_lists import count_listed


def count_images(dataset) -> tuple[int, int]:
    """Images of the split file (without one, of the folder) and of the folder, whatever `indices` or a draw takes."""
    prefix, suffix = getattr(dataset, 'data_prefix', {}), getattr(dataset, 'img_suffix', None)
    folder = prefix.get('img_path')
    there = len(_image_names(dataset)) if folder and suffix and Path(folder).is_dir() else len(dataset)
    listed = count_listed(dataset)
    return there if listed is None else listed, there


def file_problems(dataset, infos: Sequence[Mapping]) -> list[Problem]:
    """Labels without an image, and images whose suffix the set does not look for."""
    prefix = getattr(dataset, 'data_prefix', {})
    folder, suffix = prefix.get('img_path'), getattr(dataset, 'img_suffix', '')
    if not folder or not suffix or not Path(folder).is_dir():
        return []
    problems = [*no_images(dataset), *_listed_only_by_mmseg(dataset, infos)]
    folders = {key: labels for key, labels in prefix.items() if key.endswith('_map_path') and labels}
    # Where all lie together, the others have a purpose.
    if not any(Path(labels) == Path(folder) for labels in folders.values()):
        problems += _unseen(folder, suffix, getattr(dataset, 'seg_map_suffix', suffix))
    ending = getattr(dataset, 'seg_map_suffix', '.png')
    map_name = getattr(dataset, 'map_name', lambda name, key: name[: -len(suffix)] + ending)
    map_suffix = getattr(dataset, 'map_suffix', lambda key: ending)
    images, beginning = _image_names(dataset), getattr(dataset, 'name_prefixes', ('', ''))[1]
    for key, labels in folders.items():
        if Path(labels).is_dir():
            names = [name for name in files_below(labels, map_suffix(key)) if Path(name).name.startswith(beginning)]
            problems += _orphans(labels, sorted(set(names) - {map_name(name, key) for name in images}), folder)
    return problems + list(_lacking(dataset, len(infos)))


def no_images(dataset) -> list[Problem]:
    """What is called as images of the set are and is no file: mmseg passes over it, and one image fewer is not seen."""
    prefix, suffix = getattr(dataset, 'data_prefix', {}), getattr(dataset, 'img_suffix', '')
    folder = prefix.get('img_path')
    elsewhere = getattr(dataset, 'backend_args', None) or not folder or not Path(folder).is_dir()
    if elsewhere or not suffix or getattr(dataset, 'ann_file', ''):  # of a list each line is looked at
        return []
    step = 'Put the image there, or remove the name'
    return [
        Problem('error', 'no-file', str(Path(folder, name)), _instead(Path(folder, name)), 'an image file', step)
        for name in no_files(folder, suffix)
    ]


def _instead(path: Path) -> str:
    return f'a link to {os.readlink(path)}, where no file is' if path.is_symlink() else 'a folder'


def _lacking(dataset, count: int) -> Iterable[Problem]:
    """One problem for each kind of label that only some images have."""
    for key, number in getattr(dataset, 'lacking', {}).items():
        if number:
            found = f'no {key} of {number} of {count} images'
            step = 'They say nothing of that task. Fine if the set is so; else unpack it again'
            where = str(dataset.data_prefix[key])
            yield Problem('warning', 'lacking-labels', where, found, 'a label of each image', step)


def _image_names(dataset) -> list[str]:
    """Relative names of all files in the image folder that are images of this set."""
    beginning = getattr(dataset, 'name_prefixes', ('', ''))[0]
    names = files_below(dataset.data_prefix['img_path'], dataset.img_suffix)
    return [name for name in names if Path(name).name.startswith(beginning)]


def _listed_only_by_mmseg(dataset, infos: Sequence[Mapping]) -> list[Problem]:
    """One problem for all images of a folder like `.ipynb_checkpoints`, or listed again behind a link that leads back:
    mmseg's sets list them, everybody else passes over them."""
    folder = dataset.data_prefix['img_path']
    if getattr(dataset, 'ann_file', ''):
        return []
    names = {Path(os.path.relpath(info['img_path'], folder)).as_posix() for info in infos}
    names = {name for name in names if name.endswith(dataset.img_suffix) and not name.startswith(os.pardir)}
    more = sorted(names - set(_image_names(dataset)))
    if not more:
        return []
    found = f'{len(more)} images in hidden folders or behind a link that leads back, e.g. {more[0]}; mmseg lists them'
    step = 'Remove these folders and links, or name the images in a split file'
    return [Problem('warning', 'hidden', folder, found, 'each image once, in folders that show', step)]


def _unseen(folder: str, suffix: str, label_suffix: str) -> list[Problem]:
    """One problem for all images that end otherwise than the set's."""
    others = [name for name in images_below(folder) if not name.endswith((suffix, label_suffix))]
    if not others:
        return []
    kinds = ', '.join(
        f'{count} {kind}' for kind, count in sorted(Counter(Path(name).suffix for name in others).items())
    )
    found = f'images that are not used: {kinds}, e.g. {others[0]}'
    step = 'Convert or rename them, or set img_suffix'
    return [Problem('warning', 'other-suffix', folder, found, f'only images that end in {suffix}', step)]


def _orphans(labels: str, names: Sequence[str], folder: str) -> list[Problem]:
    step = f'Add the image to {folder}, or remove the label; if the names follow another rule, correct the suffixes'
    return [
        Problem('warning', 'orphan-label', str(Path(labels, name)), 'a label', 'an image of that name', step)
        for name in names
    ]
