"""Where captions come from: a captioning model, the class names in a label map, another file, or nowhere.

A source is called with paths of images and gives their captions, in order; '' where it has none. Its `check` finds what
is wrong with these images before the long work starts.
"""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from mmseg.registry import TRANSFORMS

from mmdiff2in1.core.dataset_images import dataset_leaves
from mmdiff2in1.core.folders import files_below
from mmdiff2in1.core.images import check_sources, read_image
from mmdiff2in1.core.text_files import read_text

from .lookup import captions_of, image_key, read_captions

TEMPLATE = 'a photo of {names}'
IGNORED = 255
"""The value that mmseg's loader gives to labels that a data set ignores, beside its `ignore_index`."""


class ModelCaptions:
    """Asks a captioning model: uint8 RGB images (H, W, 3) → captions. `load` makes it when it is first needed."""

    def __init__(self, load: Callable[[], Callable[[Sequence[np.ndarray]], list[str]]]) -> None:
        self._load = cache(load)

    def check(self, paths: Sequence[str]) -> None:
        """Raises FileNotFoundError or ValueError naming the images that cannot be decoded."""
        check_sources(paths)

    def __call__(self, paths: Sequence[str]) -> list[str]:
        with ThreadPoolExecutor() as pool:
            return self._load()(list(pool.map(read_image, paths)))


class ClassCaptions:
    """The names of the classes in an image's label map, the one with the most pixels first.

    `dataset` is a built data set with label maps, which are read as it reads them: `reduce_zero_label` and a choice of
    classes hold. `template` has a place for `{names}`; at most `max_names` of them are told, never those in `without`.
    An image without any, or without a label map beside others that have one, is captioned ''.

    Raises ValueError for a data set without class names or label maps, a template without that place, and unknown
    names in `without`.
    """

    def __init__(self, dataset, template: str = TEMPLATE, max_names: int = 8, without: Collection[str] = ()) -> None:
        self.classes = list(dataset.metainfo.get('classes') or ())
        self.template, self.max_names, self.without = template, max_names, set(without)
        if '{names}' not in template:
            raise ValueError(f'the template {template!r} has no place for {{names}}, e.g. {TEMPLATE!r}')
        if max_names < 1:
            raise ValueError(f'max_names is {max_names}, expected at least 1')
        if not self.classes:
            raise ValueError(
                f"{type(dataset).__name__} has no class names (metainfo['classes']) to write captions with"
            )
        if unknown := self.without - set(self.classes):
            known = ', '.join(self.classes)
            raise ValueError(f'{", ".join(sorted(unknown))}: no such class to leave out; known: {known}')
        self._labels: dict[str, tuple[dict, Callable[[dict], dict], int]] = {}
        for leaf in dataset_leaves(dataset):
            # One for each: it keeps the reduce_zero_label of its first image.
            loader = TRANSFORMS.build(dict(type='LoadAnnotations'))
            for index in range(len(leaf)):
                info = leaf.get_data_info(index)
                if info.get('seg_map_path'):
                    self._labels.setdefault(info['img_path'], (info, loader, getattr(leaf, 'ignore_index', IGNORED)))
        if not self._labels:
            raise ValueError(
                f'{type(dataset).__name__} has no label map of classes for any of its images, expected some '
                '(data_prefix.seg_map_path); add them, or choose another source of captions'
            )

    def check(self, paths: Sequence[str]) -> None:
        """Raises FileNotFoundError naming the label maps that are not there."""
        files = [self._labels[path][0]['seg_map_path'] for path in paths if path in self._labels]
        missing = [file for file in files if not Path(file).is_file()]
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(files)} label maps are not there, the first is {missing[0]}; '
                'check data_prefix.seg_map_path and seg_map_suffix'
            )

    def __call__(self, paths: Sequence[str]) -> list[str]:
        return [self._caption(path) for path in paths]

    def names(self, path: str) -> list[str]:
        """The classes in the label map of an image, the one with the most pixels first; none without a map."""
        if path not in self._labels:
            return []
        info, loader, ignore_index = self._labels[path]
        loaded = loader(dict(info, seg_fields=[]))
        try:
            return class_names_by_area(loaded['gt_seg_map'], self.classes, {IGNORED, ignore_index})
        except ValueError as error:
            raise ValueError(f'label map {info["seg_map_path"]}: {error}') from None

    def _caption(self, path: str) -> str:
        told = [name for name in self.names(path) if name not in self.without][: self.max_names]
        return self.template.format(names=enumerate_names(told)) if told else ''


class FileCaptions:
    """Captions from `source`, a JSONL file as `read_captions` takes it, or a folder of text files NAME.txt.

    A text file belongs to the image of the same name; folders tell equal names apart, as in `captions_of`. Images that
    it has no caption for are an error which names them, unless `allow_missing`.
    """

    def __init__(self, source: str | Path, allow_missing: bool = False) -> None:
        self.source, self.allow_missing = Path(source), allow_missing
        self._is_folder = self.source.is_dir()
        if self._is_folder:
            files = [self.source / name for name in files_below(self.source, '.txt')]
            if not files:
                raise FileNotFoundError(f'folder {source} holds no .txt files; expected one NAME.txt per image')
            self._texts = {
                image_key(file.relative_to(self.source).with_suffix('').as_posix()): ' '.join(read_text(file).split())
                for file in files
            }
        else:
            self._texts = read_captions(source)

    def check(self, paths: Sequence[str]) -> None:
        """Raises ValueError naming the images without a caption."""
        missing = [path for path, caption in zip(paths, self(paths), strict=True) if not caption]
        if missing and not self.allow_missing:
            name = f'{Path(missing[0]).stem}.txt' if self._is_folder else 'a line of its own'
            raise ValueError(
                f'{self.source} has no caption for {len(missing)} of {len(paths)} images, the first is {missing[0]} '
                f'(found {len(self._texts)} captions, expected {name}); add them, or choose a fallback caption'
            )

    def __call__(self, paths: Sequence[str]) -> list[str]:
        images = [Path(path) for path in paths]
        names = [(image.with_suffix('') if self._is_folder else image).as_posix() for image in images]
        return captions_of(names, self._texts, fallback='')


class EmptyCaptions:
    """'' for every image: it is created without a caption, and that was chosen."""

    def check(self, paths: Sequence[str]) -> None:
        """Nothing can be wrong."""

    def __call__(self, paths: Sequence[str]) -> list[str]:
        return [''] * len(paths)


CaptionSource = ModelCaptions | ClassCaptions | FileCaptions | EmptyCaptions


def class_names_by_area(labels: np.ndarray, classes: Sequence[str], ignored: Collection[int]) -> list[str]:
    """Names of the classes in integer `labels` (H, W), the one with the most pixels first, equal ones in label order.

    Raises ValueError for colours instead of numbers, and for a number that is neither a class nor in `ignored`.
    """
    if labels.ndim != 2:
        raise ValueError(f'found an array {labels.shape}, expected one number per pixel (H, W)')
    values, counts = np.unique(labels, return_counts=True)
    counted = ~np.isin(values, sorted(ignored))
    values, counts = values[counted], counts[counted]
    strange = values[values >= len(classes)]
    if len(strange):
        raise ValueError(
            f'found the values {strange[:5].tolist()}, expected 0 … {len(classes) - 1} for {len(classes)} classes or '
            f'{sorted(ignored)} (ignored); check reduce_zero_label, ignore_index and the classes of the data set'
        )
    return [classes[value] for value in values[np.argsort(-counts, kind='stable')]]


def enumerate_names(names: Sequence[str]) -> str:
    """'wall', 'wall and floor', 'wall, floor and table'."""
    return ' and '.join([*([', '.join(names[:-1])] if names[1:] else []), *names[-1:]])
