"""Human parts: to which part of a body a pixel belongs; PASCAL-Context's seven classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmseg.registry import TASK_UTILS

from .semantic_segmentation import SemanticSegmentation

HUMAN_PARTS = ('background', 'head', 'torso', 'upper arms', 'lower arms', 'upper legs', 'lower legs')
PALETTE = ((70, 70, 70), (222, 90, 60), (240, 190, 70), (90, 170, 90), (60, 200, 190), (80, 120, 220), (170, 90, 200))


@TASK_UTILS.register_module()
class HumanParts(SemanticSegmentation):
    """Indices of body parts, uint8 in maps and files, int64 in targets; 0 is the background, 255 says nothing.

    In PASCAL-Context left and right are one class: "upper arms" holds both. Sets that tell them apart name their parts
    in `classes` and the indices that change places in a mirror in `mirrored_pairs`.

    Args:
        classes: Names of the parts, the background first.
        mirrored_pairs: See `SemanticSegmentation`.
        palette: RGB triples in 0-255; None: this task's own for seven classes, else hues that are easy to tell apart.
        ignore_index: The index of pixels that say nothing.

    Raises:
        ValueError: See `SemanticSegmentation`.
    """

    name = 'human_parts'
    field = 'gt_human_parts'
    path_key = 'human_parts_map_path'
    logits_key = 'human_parts_logits'

    def __init__(
        self,
        classes: Sequence[str] = HUMAN_PARTS,
        mirrored_pairs: Sequence[Sequence[int]] = (),
        palette: Sequence[Sequence[int]] | np.ndarray | None = None,
        ignore_index: int = 255,
    ) -> None:
        if palette is None and len(classes) == len(PALETTE):
            palette = PALETTE
        super().__init__(len(classes), ignore_index, palette, mirrored_pairs=mirrored_pairs, classes=classes)

    def of_dataset(self, meta: Mapping[str, Any]) -> 'HumanParts':
        """This task: the names and colours of a data set are those of its semantic classes."""
        return self

    @property
    def loss(self) -> dict[str, Any]:
        """Cross-entropy, the mean over the pixels that say something."""
        return dict(type='PixelCrossEntropyLoss', ignore_index=self.ignore_index)

    @property
    def metric(self) -> dict[str, Any]:
        """Mean intersection over union of this task's field."""
        settings = dict(classes=list(self.classes or ()), ignore_index=self.ignore_index)
        return dict(type='ClassIoUMetric', task=dict(type='HumanParts', **settings))
