"""Saliency: what stands out in an image, as two classes."""

from collections.abc import Mapping
from typing import Any

from mmseg.registry import TASK_UTILS

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

    @property
    def loss(self) -> dict[str, Any]:
        """Cross-entropy in which both classes of a batch weigh the same."""
        return dict(type='BalancedCrossEntropyLoss', ignore_index=self.ignore_index)

    @property
    def metric(self) -> dict[str, Any]:
        """The largest F-measure over thresholds, of pooled counts."""
        return dict(type='SaliencyMetric')
