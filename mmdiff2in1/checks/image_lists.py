"""The list of a data set, `ann_file`, against its files: lines that lead to none, and what mmseg reads otherwise.

mmseg's sets take each line of a list, an empty one too, for a name below `img_path` without `img_suffix`, and a mark at
its beginning for a part of the first name; ours read it as `core/list_files.py` does.
"""

import os.path as osp
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmseg.datasets import BaseSegDataset

from mmdiff2in1.core.list_files import ListLine, list_entries, list_lines
from mmdiff2in1.core.problem import Problem
from mmdiff2in1.core.text_files import is_marked
from mmdiff2in1.datasets import DenseMapDataset
from mmdiff2in1.datasets.folder_listing import FolderListing
from mmdiff2in1.datasets.list_forms import readings


def list_faults(dataset) -> list[Problem]:
    """Faults that keep a set's list from being read as it stands: its encoding; for mmseg's sets also a mark of it."""
    split = _list_of(dataset)
    try:
        if split:
            list_lines(split)
    except ValueError as error:
        found, _, step = str(error).partition('; expected a text file in UTF-8. ')
        return [Problem('error', 'list-encoding', split, found.partition('found ')[2], 'a list in UTF-8', step)]
    if split and _reads_as_mmseg(dataset) and is_marked(split):
        step = f'Write it without the mark: {_convert(split)}'
        found = 'the mark of an encoding (BOM) at its beginning, which mmseg takes for a part of the first name'
        return [Problem('error', 'list-mark', f'{split}:1', found, 'plain UTF-8, which has none', step)]
    return []


def listed_at(dataset) -> dict[str, list[ListLine]]:
    """Image → the lines that name it; empty without a list, or where nobody knows how it is read."""
    if isinstance(dataset, DenseMapDataset):
        return dataset.lines
    lines = defaultdict(list)
    if _list_of(dataset) and _reads_as_mmseg(dataset):
        for line in list_lines(dataset.ann_file):
            lines[osp.join(dataset.data_prefix['img_path'], line.text + dataset.img_suffix)].append(line)
    return lines


def count_listed(dataset) -> int | None:
    """How many images its list names; None: it has none."""
    split = _list_of(dataset)
    return len(list_entries(split)) if split else None


def leading_nowhere(dataset, infos: Sequence[Mapping]) -> dict[str, Problem]:
    """Images of the set's list that are not there, with the line that names each."""
    there = FolderListing()
    lines = listed_at(dataset)
    images = dict.fromkeys(info.get('img_path') for info in infos)
    lost = (image for image in images if image in lines and image not in there)
    return {image: _nowhere(dataset, lines[image][0], image) for image in lost}


def listed_twice(dataset, infos: Sequence[Mapping]) -> list[Problem]:
    """Images that a set names more than once."""
    counts, lines = Counter(info['img_path'] for info in infos), listed_at(dataset)
    step = f'Remove the repeats from {getattr(dataset, "ann_file", "") or "the list"}; they weigh more than others'
    return [
        Problem('warning', 'listed-twice', path, _entries(count, lines.get(path, ())), 'one', step)
        for path, count in counts.items()
        if count > 1
    ]


def _entries(count: int, lines: Iterable[ListLine]) -> str:
    numbers = ', '.join(str(line.number) for line in lines)
    return f'{count} entries' + (f', lines {numbers}' if numbers else '')


def _nowhere(dataset, line: ListLine, image: str) -> Problem:
    folder, suffix = dataset.data_prefix['img_path'], dataset.img_suffix
    expected = f'the name of an image below {folder} without {suffix}'
    name = _name_in(line.text, folder, suffix)
    if not line.text or line.is_comment:
        found, step = repr(line.text), 'Remove the line: mmseg takes each one for a name'
    elif name is not None:
        found, step = repr(line.text), f'Write {name!r}: mmseg adds folder and suffix, and reads one column'
    else:
        found, step = repr(line.text), 'Add the image, or take the line out of the list'
    return Problem('error', 'list-line', str(line), f'{found}, which leads to no file ({image})', expected, step)


def _name_in(text: str, folder: str, suffix: str) -> str | None:
    """The name that a line means, if one of its readings is an image below the folder."""
    for way in readings(text) if text else ():
        path = way.fields[0].removesuffix(suffix)
        parts = path.strip('/').split('/')
        for start in range(len(parts)):
            name = '/'.join(parts[start:])
            if name and Path(folder, name + suffix).is_file():
                return name
    return None


def _list_of(dataset) -> str:
    """Its list, if that is a local text file."""
    split = getattr(dataset, 'ann_file', '')
    known = _reads_as_mmseg(dataset) or isinstance(dataset, DenseMapDataset)
    return split if known and split and not getattr(dataset, 'backend_args', None) and Path(split).is_file() else ''


def _reads_as_mmseg(dataset) -> bool:
    return getattr(type(dataset), 'load_data_list', None) is BaseSegDataset.load_data_list


def _convert(split: str) -> str:
    with open(split, 'rb') as stream:
        utf16 = stream.read(2) in (b'\xff\xfe', b'\xfe\xff')
    return f'iconv -f utf-16 -t utf-8 {split} > new' if utf16 else f"sed -i '1s/^\\xEF\\xBB\\xBF//' {split}"
