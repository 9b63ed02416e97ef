"""Layout-conditioned creation: a label map, drawn as the picture that a ControlNet is shown.

Label in, image out, label true: the created image is taught with the label of its source (`labels='source'`), or with
the one that a layout has composed (`labels='stored'`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from mmengine.config import Config

from mmdiff2in1.tasks import DenseTask, SemanticSegmentation

from .label_maps import LabelMaps
from .layouts import Composed, LabelledSamples
from .recipe import Condition


@dataclass(frozen=True)
class ConditionSettings:
    """`stages.synthesis.condition`: the name of a task, or `dict(task=…, palette=…)`.

    `palette`: K colours, RGB 0-255, one for each class, in which the ControlNet knows them; None: the data set's own.
    The published ones for segmentation know the colours of ADE20K's 150 classes, mmseg's `ADE20KDataset` palette.
    """

    task: str
    palette: Sequence[Sequence[int]] | None = None

    @classmethod
    def of(cls, given: str | Mapping[str, Any]) -> 'ConditionSettings':
        """Raises ValueError for keys that there are not, or a palette of a task without classes."""
        settings = dict(given) if isinstance(given, Mapping) else dict(task=given)
        if not isinstance(settings.get('task'), str) or not set(settings) <= {'task', 'palette'}:
            raise ValueError(f'condition is {given!r}, expected the name of a task, or dict(task=…, palette=[…])')
        return cls(**settings)


class ConditionPictures:
    """The pictures of sources, from their label maps.

    Args:
        maps: Of all sources that are created from.
        settings: What is drawn, and how.

    Raises:
        ValueError: A palette for a task without classes, or of another number of colours.
    """

    def __init__(self, maps: LabelMaps, settings: ConditionSettings) -> None:
        self.maps, self.task = maps, _drawn_by(maps.task, settings)
        self._known: dict[tuple[str, tuple[int, int]], Condition] = {}

    @classmethod
    def from_cfg(cls, cfg: Config, given: str | Mapping[str, Any]) -> 'ConditionPictures':
        """Of the training set of a config; raises ValueError as `ConditionSettings.of` and `LabelMaps`."""
        settings = ConditionSettings.of(given)
        return cls(LabelMaps(cfg, settings.task), settings)

    def picture(self, source: str, size: tuple[int, int]) -> np.ndarray:
        """uint8 RGB (H, W, 3), the map brought to (H, W) `size` first, classes by nearest neighbour."""
        return self.task.condition(self.maps.map(source, size))

    def condition(self, source: str, size: tuple[int, int]) -> Condition:
        """Condition that a recipe keeps of that picture."""
        key = source, (int(size[0]), int(size[1]))
        if key not in self._known:
            self._known[key] = Condition(self.task.name, _digest(self.picture(source, size)))
        return self._known[key]

    def checked(self, source: str, size: tuple[int, int], expected: Condition) -> np.ndarray:
        """The picture of a recipe; ValueError if the label has changed since."""
        picture = self.picture(source, size)
        if Condition(self.task.name, _digest(picture)) != expected:
            raise ValueError(
                f'the {self.task.name} label of {source}, or how it is drawn, has changed since the plan was made; '
                'start again'
            )
        return picture

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all maps as they are drawn at their own size."""
        names = self.maps.names
        with ThreadPoolExecutor() as pool:
            drawn = list(pool.map(lambda name: _digest(self.task.condition(self.maps.map(name))), names))
        return hashlib.sha256(json.dumps(dict(zip(names, drawn, strict=True))).encode()).hexdigest()


class ComposedPictures:
    """The pictures of what a layout composes, from its labels.

    Args:
        samples: That the layout composes of.
        settings: What is drawn, and how.

    Raises:
        ValueError: The samples have no label of that task, or see `ConditionPictures`.
    """

    def __init__(self, samples: LabelledSamples, settings: ConditionSettings) -> None:
        if settings.task not in samples.tasks:
            raise ValueError(
                f'condition is {settings.task!r}, but the training set has labels of {", ".join(samples.tasks)}: the '
                'layout composes those; name one of them'
            )
        self.task = _drawn_by(samples.tasks[settings.task], settings)
        self._condition = Condition(self.task.name, self.digest)

    def condition(self, source: str, size: tuple[int, int]) -> Condition:
        """Condition that a recipe keeps: the labels follow from its layout, so all that it adds is their colours."""
        return self._condition

    def picture(self, composed: Composed, size: tuple[int, int]) -> np.ndarray:
        """uint8 RGB (H, W, 3) of the composed label, brought to (H, W) `size` first; black where it has none."""
        label = composed.labels.get(self.task.name)
        if label is None:
            return np.zeros((*size, 3), np.uint8)
        return self.task.condition(label if label.shape[:2] == tuple(size) else self.task.resize(label, size))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the colours of the classes, if it has any."""
        palette = getattr(self.task, 'palette', None)
        return hashlib.sha256(json.dumps(np.asarray(() if palette is None else palette).tolist()).encode()).hexdigest()


Pictures = ConditionPictures | ComposedPictures


def _drawn_by(task: DenseTask, settings: ConditionSettings) -> DenseTask:
    if settings.palette is None:
        return task
    if not isinstance(task, SemanticSegmentation):
        raise ValueError(f'condition gives a palette, but {task.name} has no classes; leave palette out')
    return SemanticSegmentation(task.num_classes, task.ignore_index, settings.palette, classes=task.classes)


def _digest(picture: np.ndarray) -> str:
    return hashlib.sha256(f'{picture.shape}'.encode() + picture.tobytes()).hexdigest()
