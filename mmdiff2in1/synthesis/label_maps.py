"""The label maps of source images, read as the training set of a config reads them.

H, W: size of a map. A map: see `DenseTask`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS, TASK_UTILS

from mmdiff2in1.core.building import building
from mmdiff2in1.core.dataset_images import dataset_leaves, list_images, source_name
from mmdiff2in1.core.images import image_size
from mmdiff2in1.core.names import type_name
from mmdiff2in1.tasks import DenseTask, SemanticSegmentation

from .sources import map_leaves, real_dataset_cfg

NO_LABELS = ('LoadImage', 'LoadCaption')
"""Beginnings of the names of steps that load something else than labels."""
CLASS_MAP = 'gt_seg_map'
"""Where mmseg's loaders put class maps."""
UNKNOWN = 255


class LabelMaps:
    """Maps of one task by the name of their source, see `source_name`.

    The steps of the data set's own pipeline load them, so zero labels, classes left out, masks and axes are as in the
    training.

    Args:
        cfg: With the labelled images as `train_dataloader.dataset`, perhaps in our wrapper.
        task_name: `semantic_segmentation`, `depth`, `normal`, or a task of one's own.
        ignored: What classes that mmseg's loaders read have where there is none.

    Attributes:
        data_root: Where the names of sources start.

    Raises:
        ValueError: No such task, no step that loads its labels, or classes that the data set does not name.
    """

    def __init__(self, cfg: Config, task_name: str, ignored: int = UNKNOWN) -> None:
        self._kind, self._ignored = _kind_of(task_name), ignored
        real = real_dataset_cfg(cfg)
        with building(cfg['train_dataloader'], 'train_dataloader'):
            dataset = DATASETS.build(map_leaves(real, _loading_labels))
        self.data_root, _ = list_images(dataset)
        self._places: dict[str, tuple[BaseDataset, int]] = {}
        self._tasks = {}
        for leaf in dataset_leaves(dataset):
            task = self._task_of(leaf)
            if task is None:
                continue
            self._tasks[id(leaf)] = task
            for index in range(len(leaf)):
                info = leaf.get_data_info(index)
                if info.get(self._kind.path_key) is not None:
                    self._places.setdefault(source_name(info['img_path'], self.data_root), (leaf, index))
        if not self._tasks:
            raise ValueError(
                f'no step of the training pipeline loads labels of {task_name}; expected LoadAnnotations for classes, '
                'LoadDenseAnnotation(task=…) for others, as the pipeline of train_dataloader.dataset has them'
            )

    @property
    def task(self) -> DenseTask:
        """The task, with the names and colours of the (first) data set."""
        return next(iter(self._tasks.values()))

    @property
    def names(self) -> list[str]:
        """The sources that have a map, sorted."""
        return sorted(self._places)

    def check(self, sources: Sequence[str | None]) -> None:
        """Raises ValueError for sources without a map."""
        missing = [source for source in sources if source not in self._places]
        if missing:
            raise ValueError(
                f'{len(missing)} of {len(sources)} sources have no {self._kind.name} label ({missing[0]}); expected '
                f'one for each: check data_prefix.{self._kind.path_key}, or create without it'
            )

    def path(self, source: str) -> Path:
        """The image."""
        return Path(self._info(source)['img_path'])

    def map(self, source: str, size: tuple[int, int] | None = None) -> np.ndarray:
        """The map of a source at (H, W) `size`, None: its own; classes that the task does not have are ignored.

        Raises:
            KeyError: It has none.
            ValueError: Its file is damaged.
        """
        leaf, _ = self._places[source]
        info = self._info(source)
        height, width = image_size(info['img_path'])
        loaded = leaf.pipeline(info | dict(ori_shape=(height, width), img_shape=(height, width)))
        task = self._tasks[id(leaf)]
        array = loaded[CLASS_MAP if CLASS_MAP in loaded and isinstance(task, SemanticSegmentation) else task.field]
        if isinstance(task, SemanticSegmentation):
            array = np.where(array < task.num_classes, array, task.ignore_index).astype(np.uint8)
        return array if size is None or array.shape[:2] == tuple(size) else task.resize(array, size)

    def _info(self, source: str) -> dict:
        leaf, index = self._places[source]
        return leaf.get_data_info(index)

    def _task_of(self, leaf: BaseDataset) -> DenseTask | None:
        """The task of the step that loads its labels; None if there is none."""
        for step in leaf.pipeline.transforms:
            task = getattr(step, 'task', None)
            if isinstance(task, self._kind):
                return task.of_dataset(leaf.metainfo)
            read = self._kind.of_loader(type(step), vars(step))
            if read is not None:
                return read
            if self._kind is SemanticSegmentation and isinstance(step, LoadAnnotations):
                return _classes_of(leaf, self._ignored)
        return None


def _loading_labels(leaf: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's config with nothing in its pipeline but what loads labels."""
    steps = [step for step in leaf.get('pipeline') or [] if type_name(step).startswith('Load')]
    kept = [step for step in steps if not type_name(step).startswith(NO_LABELS)]
    return dict(leaf, pipeline=kept, serialize_data=False)


def _kind_of(name: str) -> type[DenseTask]:
    kinds = [k for k in TASK_UTILS.module_dict.values() if isinstance(k, type) and issubclass(k, DenseTask)]
    named = {kind.name: kind for kind in kinds}
    if name not in named:
        raise ValueError(f'there is no task {name!r}; known: {", ".join(sorted(named))}')
    return named[name]


def _classes_of(leaf: BaseDataset, ignored: int) -> SemanticSegmentation:
    classes = list(leaf.metainfo.get('classes') or ())
    if not classes:
        raise ValueError(
            f'{type(leaf).__name__} names no classes, so its label maps cannot be drawn or counted; give it '
            'metainfo=dict(classes=[…], palette=[…])'
        )
    return SemanticSegmentation(len(classes), ignored).of_dataset(leaf.metainfo)  # type: ignore[return-value]
