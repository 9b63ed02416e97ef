"""From images to maps with any mmseg segmentor: the config's test pipeline, the model's logits, the task's map.

H, W image size in pixels; C channels of the logits, c of a map.
"""

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from torch import Tensor, nn

from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.models.predicting import outputs_of
from mmdiff2in1.models.self_improving.construction import build_tasks
from mmdiff2in1.tasks import DenseTask, SemanticSegmentation, TaskSet
from mmdiff2in1.visualization.overlays import Overlaid, overlay_panel

from .image_files import Picture


@dataclass(frozen=True, kw_only=True, repr=False)
class SeenMap:
    """One task's map of an image.

    Attributes:
        map: (H, W) or (H, W, 3) in the task's units: uint8 classes, float32 metres, float32 unit vectors.
        confidence: float32 (H, W) in [0, 1], the probability of the class, of normals that of an error below the task's
            `within`; None for tasks that have none.
        colours: The map as a picture, uint8 RGB (H, W, 3).
        task: What it is a map of.
        shift: By how much the numbers in label files are larger than those in `map`: 1 where the data set ignores 0
            (`reduce_zero_label`, as ADE20K has it), else 0.
    """

    map: np.ndarray
    confidence: np.ndarray | None
    colours: np.ndarray
    task: DenseTask
    shift: int = 0

    def encode(self) -> np.ndarray:
        """The map as the label files of the data set have it: `DenseTask.encode`, and the `shift`; 255 becomes 0."""
        return self.task.encode(self.map) + np.uint8(self.shift) if self.shift else self.task.encode(self.map)

    def decode(self, array: np.ndarray) -> np.ndarray:
        """The map that is in such a file: `seen.decode(read_png(path))` equals `seen.map`, as exactly as it encodes."""
        return self.task.decode(array - np.uint8(self.shift) if self.shift else array)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The name of each class, in the order of the numbers in `map`; None where there are none."""
        return getattr(self.task, 'classes', None)

    @property
    def shares(self) -> dict[str, float]:
        """Class → share of the image in (0, 1], the largest first, of what occurs; empty for tasks without classes."""
        return self.task.shares(self.map) if isinstance(self.task, SemanticSegmentation) else {}

    def __repr__(self) -> str:
        return self.task.summary(self.map)


@dataclass(frozen=True, kw_only=True, repr=False)
class Perception:
    """Everything that a model sees in an image, at the image's own size.

    Attributes:
        image: uint8 RGB (H, W, 3).
        maps: What is seen, by task.
        path: The file that the image was read from; of a generated image, that of its source.

    Of a model with one task, `map`, `confidence`, `colours`, `classes` and `shares` are those of its `SeenMap`; of
    several they are an error that names them.
    """

    image: np.ndarray
    maps: Mapping[str, SeenMap]
    path: str | None = None

    @property
    def map(self) -> np.ndarray:
        """See `SeenMap`."""
        return self._only.map

    @property
    def confidence(self) -> np.ndarray | None:
        """See `SeenMap`."""
        return self._only.confidence

    @property
    def colours(self) -> np.ndarray:
        """See `SeenMap`."""
        return self._only.colours

    @property
    def classes(self) -> tuple[str, ...] | None:
        """See `SeenMap`."""
        return self._only.classes

    @property
    def shares(self) -> dict[str, float]:
        """See `SeenMap`."""
        return self._only.shares

    def save(self, path: str | Path, kind: str = 'map', task: str | None = None) -> Path:
        """Writes a PNG file, and returns its path.

        Args:
            path: Ends in `.png`; missing folders are made.
            kind: `map`: the numbers, as the label files of the data set have them, so that they could be trained on, at
                the size of the image; where these count from 1 (ADE20K: `reduce_zero_label`) each number is one larger
                than in `map`, and `SeenMap.decode` is the way back. `picture`: image | map over image with its legend,
                a row for each task.
            task: The one that is meant, of a model with several; a picture shows all without it.

        Raises:
            ValueError: Another ending or kind, an unknown task, or none named for the map of a model with several.
            OSError: The file cannot be written.
        """
        path = Path(path).expanduser()
        if path.suffix.lower() != '.png':
            raise ValueError(
                f'{path}: found {path.suffix or "no ending"}, expected .png, which changes no number of a map'
            )
        if task is not None and task not in self.maps:
            raise ValueError(f'there is no task {task!r}; this model sees {", ".join(self.maps)}')
        if kind == 'map':
            seen = self._only if task is None else self.maps[task]
            write_png(path, seen.encode())
        elif kind == 'picture':
            write_png(path, self._picture(self.maps if task is None else {task: self.maps[task]}))
        else:
            raise ValueError(f"kind={kind!r}: expected 'map' or 'picture'")
        return path

    def _picture(self, maps: Mapping[str, SeenMap]) -> np.ndarray:
        rows = [
            Overlaid(
                self.image,
                seen.colours,
                seen.task.known(seen.map),
                seen.task.legend(seen.map),
                name.replace('_', ' ') if len(maps) > 1 else '',
            )
            for name, seen in maps.items()
        ]
        return overlay_panel(rows, Path(self.path).name if self.path else '')

    @property
    def _only(self) -> SeenMap:
        if len(self.maps) > 1:
            raise ValueError(f'this model sees {", ".join(self.maps)}; name one: .maps[{next(iter(self.maps))!r}].map')
        return next(iter(self.maps.values()))

    def __repr__(self) -> str:
        return f'Perceived {Path(self.path).name if self.path else "an image"}: {self._summary()}'

    def _summary(self) -> str:
        height, width = self.image.shape[:2]
        return f'{height}×{width}, ' + ' · '.join(map(repr, self.maps.values()))


def tasks_of(segmentor: nn.Module, dataset_meta: Mapping[str, Any], tasks: TaskSet | None = None) -> TaskSet:
    """The tasks that `segmentor` predicts, classes in the names and colours of its data set where those are known.

    Args:
        segmentor: Any mmseg segmentor.
        dataset_meta: `classes`, `palette` of the data set, or nothing.
        tasks: Where they are known, those of a `SelfImprovingSegmentor`.
    """
    return TaskSet({name: task.of_dataset(dataset_meta) for name, task in build_tasks(tasks, segmentor).items()})


def array_pipeline(cfg: Config) -> Compose:
    """The config's test pipeline for BGR arrays: without what loads images and labels, all else as in a test."""
    steps = _test_dataset(cfg).get('pipeline') or cfg.get('test_pipeline') or [dict(type='PackSegInputs')]
    kept = [step for step in steps if not getattr(step['type'], '__name__', step['type']).startswith('Load')]
    return Compose([dict(type='LoadImageFromNDArray'), *kept])


def category_index(segmentor: nn.Module, dataset_meta: Mapping[str, Any], category: str | int | None) -> int | None:
    """Index of the class that a model is told with each image (VPD's depth model: the kind of scene), or None.

    Raises:
        ValueError: The model needs a class and gets none or an unknown one, or gets one and needs none.
    """
    names = list(dataset_meta.get('classes') or ())
    if not hasattr(segmentor, 'conditioned'):
        if category is not None:
            raise ValueError(f'category={category!r}: this model is not told what an image shows; leave it out')
        return None
    index = names.index(category) if category in names else category
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(segmentor.backbone.tokens):
        raise ValueError(
            f'category={category!r}: this model is told what kind of scene an image shows; expected one of '
            f'{", ".join(names) or f"0 … {len(segmentor.backbone.tokens) - 1}"}'
        )
    return index


def logits_of(
    segmentor: nn.Module, pipeline: Compose, images: Sequence[np.ndarray], category_id: int | None = None
) -> list[Tensor]:
    """Logits (1, C, H, W) of equally large uint8 RGB images, each at the size of its image, see `outputs_of`.

    `category_id`: see `category_index`.
    """
    known = {} if category_id is None else dict(category_id=category_id)
    packed = [pipeline(dict(img=np.ascontiguousarray(image[..., ::-1]), **known)) for image in images]
    return outputs_of(segmentor, [each['inputs'] for each in packed], [each['data_samples'] for each in packed])


def perceived(tasks: TaskSet, output: Tensor, zero_is_ignored: bool = False) -> dict[str, SeenMap]:
    """Maps in an output (1, C, H, W) of a model, by task."""
    return {name: seen_map(tasks[name], part, zero_is_ignored) for name, part in tasks.split(output).items()}


def seen_map(task: DenseTask, output: Tensor, zero_is_ignored: bool = False) -> SeenMap:
    """The map in an output (1, C_k, H, W) of one task; label files of a data set that ignores 0 are one larger."""
    target, confidence = task.pseudo_label(output)
    found = task.to_map(target[0])
    sure = None if confidence is None else confidence[0, 0].cpu().numpy()
    shift = int(zero_is_ignored and task.path_key == 'seg_map_path')
    return SeenMap(map=found, confidence=sure, colours=task.colours(found), task=task, shift=shift)


def perceptions(
    segmentor: nn.Module,
    tasks: TaskSet,
    pipeline: Compose,
    pictures: Iterable[Picture],
    batch_size: int,
    category_id: int | None = None,
    zero_is_ignored: bool = False,
) -> Iterator[Perception]:
    """One after the other; at most `batch_size` neighbours of one size are predicted, and held, at a time."""
    for _, neighbours in itertools.groupby(pictures, lambda picture: picture.image.shape):
        while batch := list(itertools.islice(neighbours, batch_size)):
            logits = logits_of(segmentor, pipeline, [picture.image for picture in batch], category_id)
            for picture, one in zip(batch, logits, strict=True):
                yield Perception(image=picture.image, path=picture.path, maps=perceived(tasks, one, zero_is_ignored))


def batches_of_equals(keys: Sequence[Hashable], batch_size: int) -> Iterator[list[int]]:
    """Positions with equal keys, at most `batch_size` at a time."""
    groups = defaultdict(list)
    for position, key in enumerate(keys):
        groups[key].append(position)
    for positions in groups.values():
        for start in range(0, len(positions), batch_size):
            yield positions[start : start + batch_size]


def _test_dataset(cfg: Config) -> dict:
    return (cfg.get('test_dataloader') or {}).get('dataset') or {}
