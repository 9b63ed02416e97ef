"""Saliency: what stands out in an image, as two classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmseg.registry import TASK_UTILS

from mmdiff2in1.core.problem import Problem

from .semantic_segmentation import SemanticSegmentation

PALETTE = ((40, 50, 70), (250, 220, 90))


@TASK_UTILS.register_module()
class Saliency(SemanticSegmentation):
    """0 background, 1 salient, uint8 in maps and files, int64 in targets; 255 says nothing. A head puts out two logits.

    Args:
        ignore_index: The index of pixels that say nothing.

    Raises:
        ValueError: An ignored index outside [2, 255].
    """

    name = 'saliency'
    field = 'gt_saliency'
    path_key = 'saliency_map_path'
    logits_key = 'saliency_logits'

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__(2, ignore_index, PALETTE, classes=('background', 'salient'))

    def of_dataset(self, meta: Mapping[str, Any]) -> 'Saliency':
        """This task: the names and colours of a data set are those of its semantic classes."""
        return self

    def inspect(self, raw: np.ndarray, array: np.ndarray, info: Mapping[str, Any]) -> np.ndarray:
        """Pixels of both classes, and of what says nothing, (3,)."""
        return np.append(super().inspect(raw, array, info), np.count_nonzero(array == self.ignore_index))

    def judge(
        self, facts: Sequence[np.ndarray], info: Mapping[str, Any], where: str
    ) -> tuple[list[str], list[Problem]]:
        """How much is salient; an error where nothing is and much is ignored: masks of 0 and 255 are such."""
        background, salient, ignored = np.sum(facts, axis=0).tolist()
        notes, problems = [f'saliency: {salient / max(1, background + salient):.1%} of the known pixels'], []
        if not salient:
            severity, found = 'warning', f'nothing salient in any of the {len(facts)} maps read'
            if ignored:
                severity, found = 'error', f'{found}, but {self.ignore_index}, which says nothing'
            step = "If 255 is salient: label_formats={'saliency_map_path': 'grey_saliency'} in the data set"
            problems.append(Problem(severity, 'no-saliency', where, found, '1 where something is salient', step))
        return notes, problems

    @property
    def loss(self) -> dict[str, Any]:
        """Cross-entropy in which both classes of a batch weigh the same."""
        return dict(type='BalancedCrossEntropyLoss', ignore_index=self.ignore_index)

    @property
    def metric(self) -> dict[str, Any]:
        """The largest F-measure over thresholds, of pooled counts."""
        return dict(type='SaliencyMetric')
