"""Which samples of a store are trained on, and to which image of the wrapped dataset each of them belongs.

R: number of real samples of the wrapped dataset.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset

from mmdiff2in1.core.randomness import derived_seed

HOW_TO_MAKE_MORE = 'make more with mmdiff2in1 synthesize CONFIG and a larger num_samples or samples_per_image'


@dataclass(frozen=True)
class SourceImage:
    """The image a sample was made from: `dataset` is the unwrapped dataset that lists it, at `index`.

    A sample that was made from none belongs to a data set all the same, of which it has what all images have in
    `common`; what tells them apart, their files, captions or kinds of scene, it has not.
    """

    dataset: BaseDataset
    index: int = 0
    common: dict | None = None

    def info(self) -> dict:
        """The data info to change; each caller gets its own."""
        return self.dataset.get_data_info(self.index) if self.common is None else copy.deepcopy(self.common)


def draw(
    records: Sequence[dict], num_samples: int | None, samples_per_image: int | None, seed: int, store: str
) -> list[dict]:
    """The records to train on, in the order of `records`: a seeded draw without replacement.

    `num_samples` of all of them, or `samples_per_image` of each source; neither: all. A larger number contains the
    smaller one. `store` is the folder named in errors.

    Raises ValueError if the store is empty or holds fewer than asked for, saying how to make more.
    """
    if not records:
        raise ValueError(f'{store} holds no samples; {HOW_TO_MAKE_MORE}, or set store=None to train without')
    if num_samples is not None:
        return _draw(records, num_samples, seed, f'{store} holds {len(records)} samples')
    if samples_per_image is None:
        return list(records)
    alone = sum(record['source'] is None for record in records)
    if alone:
        raise ValueError(
            f'samples_per_image={samples_per_image}, but {alone} of {len(records)} samples in {store} belong to no '
            'image (new scenes from noise, unlabelled images); ask for num_samples instead'
        )
    by_source = defaultdict(list)
    for record in records:
        by_source[record['source']].append(record)
    drawn = []
    for source, group in by_source.items():
        drawn += _draw(group, samples_per_image, seed, f'{store} holds {len(group)} samples of {source}')
    return sorted(drawn, key=lambda record: record['sample_id'])


def _draw(records: Sequence[dict], number: int, seed: int, found: str) -> list[dict]:
    if number > len(records):
        raise ValueError(f'{found}, expected at least {number}; {HOW_TO_MAKE_MORE}, or ask for fewer')
    # By hash, not by a generator: independent of NumPy's version and of the order of the manifest.
    ranked = sorted(records, key=lambda record: derived_seed(seed, 'draw', record['sample_id']))
    return sorted(ranked[:number], key=lambda record: record['sample_id'])


def unwrapped(dataset: object) -> list[BaseDataset]:
    """The datasets with a pipeline of their own inside mmengine's wrappers, in order.

    Raises TypeError for a wrapper whose samples have no single source, such as MultiImageMixDataset.
    """
    if isinstance(dataset, ConcatDataset):
        return [leaf for part in dataset.datasets for leaf in unwrapped(part)]
    if isinstance(dataset, (RepeatDataset, ClassBalancedDataset)):
        return unwrapped(dataset.dataset)
    if isinstance(dataset, BaseDataset):
        return [dataset]
    raise TypeError(
        f'cannot add synthetic samples to a {type(dataset).__name__}; expected a dataset derived from '
        'mmengine.dataset.BaseDataset, or ConcatDataset, RepeatDataset, ClassBalancedDataset of such. What puts '
        'several images into one (MultiImageMixDataset with RandomMosaic) leaves none that a created image could be a '
        'twin of: take the data set inside of it'
    )


class SourceIndex:
    """Finds the images of a dataset by the `source` of a record, which is relative to a data root that may differ.

    An image fits if one of the two paths is the end of the other, whole names at a time.
    """

    def __init__(self, dataset: object) -> None:
        self._leaves = unwrapped(dataset)
        self._by_name: dict[str, dict[tuple[str, ...], SourceImage]] = defaultdict(dict)
        for leaf in self._leaves:
            for index in range(len(leaf)):
                parts = _parts(leaf.get_data_info(index)['img_path'])
                self._by_name[parts[-1]].setdefault(parts, SourceImage(leaf, index))

    @cached_property
    def _nowhere(self) -> SourceImage:
        leaf = self._leaves[0]
        first, *others = [leaf.get_data_info(index) for index in range(len(leaf))]
        common = {key: value for key, value in first.items() if all(_equal(value, info.get(key)) for info in others)}
        # Where a file would be: that there is none.
        return SourceImage(leaf, common=common | dict.fromkeys(key for key in first if key.endswith('_path')))

    def find(self, record: dict, store: str) -> SourceImage:
        """The source of a record.

        A sample without one (`source` null: from pure noise, or an unlabelled image) goes through the pipeline of the
        first data set, as an image of which nothing is known but what all images there have in common.

        Raises ValueError if no image fits, or more than one.
        """
        if record['source'] is None:
            return self._nowhere
        wanted = _parts(record['source'])
        fitting = {
            parts: source
            for parts, source in self._by_name.get(wanted[-1], {}).items()
            if _one_ends_other(parts, wanted)
        }
        if len(fitting) == 1:
            return next(iter(fitting.values()))
        found = ', '.join('/'.join(parts) for parts in sorted(fitting)[:3]) or 'no such image'
        raise ValueError(
            f'sample {record["sample_id"]} of {store} was made from {record["source"]}, expected exactly one image of '
            f'the wrapped dataset with that path; found {found}. Use the store that was made from this dataset'
        )


def _equal(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return type(a) is type(b) and bool(a == b)


def _parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(str(path).replace('\\', '/')).parts


def _one_ends_other(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    shared = min(len(a), len(b))
    return a[-shared:] == b[-shared:]
