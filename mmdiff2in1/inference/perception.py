"""From images to maps with any mmseg segmentor: the config's test pipeline, the model's logits, the task's map.

H, W image size in pixels; C channels of the logits, c of a map.
"""

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from torch import Tensor, nn

from mmdiff2in1.models.predicting import outputs_of
from mmdiff2in1.models.self_improving.construction import build_tasks
from mmdiff2in1.tasks import DenseTask, TaskSet

from .image_files import Picture


@dataclass(frozen=True, kw_only=True)
class SeenMap:
    """One task's map of an image.

    Attributes:
        map: (H, W) or (H, W, 3) in the task's units: uint8 classes, float32 metres, float32 unit vectors.
        confidence: float32 (H, W) in [0, 1], the probability of the class, of normals that of an error below the task's
            `within`; None for tasks that have none.
        colours: The map as a picture, uint8 RGB (H, W, 3).
    """

    map: np.ndarray = field(repr=False)
    confidence: np.ndarray | None = field(repr=False)
    colours: np.ndarray = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Perception:
    """Everything that a model sees in an image, at the image's own size.

    Attributes:
        image: uint8 RGB (H, W, 3).
        maps: What is seen, by task.
        path: The file that the image was read from; of a generated image, that of its source.

    Of a model with one task, `map`, `confidence` and `colours` are those of its `SeenMap`; of several they are an error
    that names them.
    """

    image: np.ndarray = field(repr=False)
    maps: Mapping[str, SeenMap] = field(repr=False)
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
    def _only(self) -> SeenMap:
        if len(self.maps) > 1:
            raise ValueError(f'this model sees {", ".join(self.maps)}; name one: .maps[{next(iter(self.maps))!r}].map')
        return next(iter(self.maps.values()))


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


def perceived(tasks: TaskSet, output: Tensor) -> dict[str, SeenMap]:
    """Maps in an output (1, C, H, W) of a model, by task."""
    return {name: seen_map(tasks[name], part) for name, part in tasks.split(output).items()}


def seen_map(task: DenseTask, output: Tensor) -> SeenMap:
    """The map in an output (1, C_k, H, W) of one task."""
    target, confidence = task.pseudo_label(output)
    found = task.to_map(target[0])
    sure = None if confidence is None else confidence[0, 0].cpu().numpy()
    return SeenMap(map=found, confidence=sure, colours=task.colours(found))


def perceptions(
    segmentor: nn.Module,
    tasks: TaskSet,
    pipeline: Compose,
    pictures: Iterable[Picture],
    batch_size: int,
    category_id: int | None = None,
) -> Iterator[Perception]:
    """One after the other; at most `batch_size` neighbours of one size are predicted, and held, at a time."""
    for _, neighbours in itertools.groupby(pictures, lambda picture: picture.image.shape):
        while batch := list(itertools.islice(neighbours, batch_size)):
            logits = logits_of(segmentor, pipeline, [picture.image for picture in batch], category_id)
            for picture, one in zip(batch, logits, strict=True):
                yield Perception(image=picture.image, path=picture.path, maps=perceived(tasks, one))


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
