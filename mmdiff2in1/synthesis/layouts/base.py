"""The interface of layouts: labelled samples in, new images with true labels out. H, W: image size."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mmdiff2in1.tasks import DenseTask, SemanticSegmentation


@dataclass(frozen=True)
class LabelledSample:
    """A real image and what is known of it.

    `image`: uint8 RGB (H, W, 3). `labels`: its maps by task, (H, W) or (H, W, 3), in the encoding of the task, as the
    pipeline of the data set loads them. `classes`: the class map (H, W) uint8 by which things are told apart; it need
    not be among the labels.
    """

    name: str
    caption: str
    image: np.ndarray
    labels: Mapping[str, np.ndarray]
    classes: np.ndarray


class LabelledSamples(Mapping[str, LabelledSample]):
    """The labelled samples of a training set by name.

    `tasks`: what the labels are, by name. `areas`: what the class maps are: number, names and ignored index.
    """

    tasks: Mapping[str, DenseTask]
    areas: SemanticSegmentation

    @property
    @abstractmethod
    def digest(self) -> str:
        """Hash of all that a layout may read: names, captions, pixels and labels."""


@dataclass(frozen=True)
class Composed:
    """A new image with its labels.

    `source`: the image that it was made from, `image`: the new one, both uint8 RGB (H, W, 3). `labels` by task.
    `pasted`: what was put where, in plain values. `redraw`: float32 (H, W) in [0, 1], the share of its pixels that a
    generator may give the image.
    """

    source: np.ndarray
    image: np.ndarray
    labels: Mapping[str, np.ndarray]
    caption: str
    pasted: list[dict[str, Any]]
    redraw: np.ndarray

    def redrawn(self, image: np.ndarray) -> np.ndarray:
        """The composed image with the pixels of a redrawn one, uint8 (H, W, 3), where it may be redrawn."""
        share = self.redraw[..., None]
        return np.round(self.image * (1 - share) + image * share).astype(np.uint8)


class Composer(Protocol):
    """Composer of samples, made by a layout that has studied a training set."""

    def compose(self, name: str, seed: int) -> Composed:
        """The sample of a name with a new layout; equal seeds give equal bytes."""


class Layout(ABC):
    """A layout is registered in mmseg's TASK_UTILS and chosen by `stages.synthesis.layout=dict(type=…)`.

    It holds settings, no state. `version` is part of the name of its samples: to be raised with every change of what
    equal settings and seeds give.
    """

    version: int = 1

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that decides what it composes, as JSON values."""

    @abstractmethod
    def study(self, samples: LabelledSamples) -> Composer:
        """Composer that has learned layouts from these samples.

        Raises:
            ValueError: Nothing can be composed of them.
        """
