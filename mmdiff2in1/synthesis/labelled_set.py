"""The labelled samples of a built data set, read by the loaders of its own pipeline. H, W: image size."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations
from mmseg.registry import TASK_UTILS, TRANSFORMS

from mmdiff2in1.core.dataset_images import dataset_leaves, source_name
from mmdiff2in1.core.images import read_image
from mmdiff2in1.tasks import DenseTask, SemanticSegmentation

from .layouts import LabelledSample, LabelledSamples

KEPT = 64
"""Samples in memory."""
OF_CLASSES = 'gt_seg_map'


@dataclass(frozen=True)
class _Loader:
    """A step that adds the map of `task` under `key`."""

    step: Any
    task: DenseTask
    key: str

    def read(self, info: Mapping[str, Any], image: np.ndarray) -> np.ndarray | None:
        """The map of a sample; None: it has no file of it."""
        if info.get(self.task.path_key) is None:
            return None
        size = image.shape[:2]
        bgr = np.ascontiguousarray(image[..., ::-1])
        results = {**info, 'img': bgr, 'img_shape': size, 'ori_shape': size, 'seg_fields': []}
        return np.asarray(self.step(results)[self.key])


class LabelledSet(LabelledSamples):
    """The images of a data set that have a class map, by their names below `data_root`.

    Their labels are what the pipeline loads, with the settings that it loads them with: the zero label is reduced,
    masks and frames are obeyed. The class map is read even if the pipeline does not load it.

    Args:
        dataset: Built, with its pipeline.
        data_root: Where names begin.
        captions: By name.

    Raises:
        ValueError: No image has a class map.
    """

    def __init__(self, dataset: Any, data_root: str | None, captions: Mapping[str, str]) -> None:
        self._captions = captions
        self._found: dict[str, list[tuple[Any, int]]] = defaultdict(list)
        self._loaders: dict[int, tuple[_Loader, list[_Loader]]] = {}
        self.tasks: dict[str, DenseTask] = {}
        for leaf in dataset_leaves(dataset):
            self._add(leaf, data_root)
        if not self._found:
            raise ValueError(
                'a layout cuts things out by the class maps of the training set, but no image has one; name their '
                'folder in data_prefix, e.g. seg_map_path, even where the pipeline does not load it'
            )
        self.areas: SemanticSegmentation = next(iter(self._loaders.values()))[0].task  # type: ignore[assignment]
        self._read = lru_cache(KEPT)(self._sample)

    def __getitem__(self, name: str) -> LabelledSample:
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @cached_property
    def digest(self) -> str:
        """See `LabelledSamples`."""
        digest = hashlib.sha256()
        for name in sorted(self):
            sample = self[name]
            digest.update(f'{name}\n{sample.caption}\n{sample.image.shape}'.encode(errors='surrogatepass'))
            for array in (sample.image, sample.classes, *(sample.labels[task] for task in sorted(sample.labels))):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _add(self, leaf: Any, data_root: str | None) -> None:
        areas = _areas_of(leaf)
        reduced = getattr(leaf, 'reduce_zero_label', None)
        step = TRANSFORMS.build(dict(type='mmseg.LoadAnnotations', reduce_zero_label=reduced))
        classes = _Loader(step, areas, OF_CLASSES)
        loaders = list(_loaders_of(getattr(leaf.pipeline, 'transforms', []), areas))
        named = False
        for index in range(len(leaf)):
            info = leaf.get_data_info(index)
            name = source_name(info['img_path'], data_root)
            if info.get(areas.path_key) is not None or name in self._found:
                self._found[name].append((leaf, index))
                named = True
        if named:
            self._loaders[id(leaf)] = classes, loaders
            self.tasks |= {loader.task.name: loader.task for loader in loaders if loader.task.name not in self.tasks}

    def _sample(self, name: str) -> LabelledSample:
        image, classes, labels = None, None, {}
        for leaf, index in self._found[name]:
            info = leaf.get_data_info(index)
            if image is None:
                image = read_image(info['img_path'])
            of_classes, loaders = self._loaders[id(leaf)]
            if classes is None:
                classes = of_classes.read(info, image)
            for loader in loaders:
                array = None if loader.task.name in labels else loader.read(info, image)
                if array is not None:
                    labels[loader.task.name] = array
        if classes.shape != image.shape[:2]:
            raise ValueError(
                f'{name}: its class map has {classes.shape}, expected the size of the image, {image.shape[:2]}'
            )
        return LabelledSample(name, self._captions.get(name, ''), image, labels, classes)


def _areas_of(leaf: Any) -> SemanticSegmentation:
    """The class maps of a data set, as they are in memory; what changes places in a mirror, its RandomFlip says."""
    ignored = 255 if getattr(leaf, 'reduce_zero_label', False) else getattr(leaf, 'ignore_index', 255)
    names = leaf.metainfo.get('classes') or None
    palette = leaf.metainfo.get('palette') or None
    count = len(names) if names else ignored
    fits = palette is not None and len(palette) == count
    steps = getattr(leaf.pipeline, 'transforms', [])
    pairs = next((pairs for step in steps if (pairs := getattr(step, 'swap_seg_labels', None))), ())
    return SemanticSegmentation(count, ignored, palette if fits else None, mirrored_pairs=pairs, classes=names)


def _loaders_of(steps: Sequence[Any], areas: SemanticSegmentation) -> Iterator[_Loader]:
    """The steps of a pipeline that load labels, those inside of others too."""
    for step in steps:
        inner = getattr(step, 'transforms', None)
        if inner is not None:
            yield from _loaders_of(inner if isinstance(inner, list | tuple) else [inner], areas)
        elif isinstance(step, LoadAnnotations):
            yield _Loader(step, areas, OF_CLASSES)
        elif isinstance(getattr(step, 'task', None), DenseTask):
            yield _Loader(step, step.task, step.task.field)
        else:
            for kind in TASK_UTILS.module_dict.values():
                read = isinstance(kind, type) and issubclass(kind, DenseTask)
                task = kind.of_loader(type(step), vars(step)) if read and hasattr(step, '__dict__') else None
                if task is not None:
                    yield _Loader(step, task, task.field)
                    break
