"""Kinds of mmseg's heads, by what they put out and what their losses make of ignored pixels."""

from collections.abc import Iterator
from typing import Any

from mmseg.models.decode_heads import MaskFormerHead
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.da_head import DAHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.decode_heads.knet_head import IterativeDecodeHead
from mmseg.models.decode_heads.mask2former_head import Mask2FormerHead
from mmseg.models.decode_heads.pid_head import PIDHead
from mmseg.models.decode_heads.san_head import SideAdapterCLIPHead
from mmseg.models.losses import CrossEntropyLoss
from torch import nn

SCORES = (MaskFormerHead, Mask2FormerHead, SideAdapterCLIPHead)
"""Heads whose prediction is Σ over masks of softmax · sigmoid."""
PLAIN = (BaseDecodeHead.loss_by_feat, DAHead.loss_by_feat, IterativeDecodeHead.loss_by_feat)
"""Sums of what the head's loss modules make of the class labels, and of nothing else."""


def heads_of(segmentor: Any) -> Iterator[tuple[str, Any]]:
    """(name in a config, head) of all heads of a segmentor, those of a cascade and auxiliary ones included."""
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(segmentor, name, None)
        if isinstance(head, nn.ModuleList):
            yield from ((f'{name}[{i}]', each) for i, each in enumerate(head))
        elif head is not None:
            yield name, head


def gives_scores(head: Any) -> bool:
    """True if a head predicts scores of classes, at least 0, and no logits; a head may say so by `gives_scores`."""
    return bool(getattr(head, 'gives_scores', isinstance(head, SCORES)))


def takes_edges(segmentor: Any) -> bool:
    """True if a head asks for a map of class borders, mmseg's `gt_edge_map`; a head may say so by `takes_edges`."""
    return any(getattr(head, 'takes_edges', isinstance(head, PIDHead)) for _, head in heads_of(segmentor))


def keeps_loss(head: Any) -> bool:
    """True if the loss is mmseg's: forward, then `loss_by_feat`; of a head that wraps another one, that one's."""
    return getattr(head.loss, '__func__', None) in (BaseDecodeHead.loss, BaseCascadeDecodeHead.loss)


def minds_ignored(module: Any) -> bool:
    """True if a sample without a known pixel may teach something, stop the training or make it no number.

    Softmax cross-entropy makes 0 of it, with a gradient of 0, and the heads and segmentors of this package count known
    pixels. A sigmoid of one class looks for the largest label, Lovász takes a mean of nothing, OHEM leaves the graph,
    Dice and Hausdorff count ignored pixels (of partly known samples too, see `left_out`), masks are pushed to "no
    object".

    Args:
        module: A head, or a segmentor with a `loss` of its own.
    """
    if any(hasattr(module, name) for name in ('task', 'tasks', 'heads')):
        return False
    if not keeps_loss(module) or getattr(module.loss_by_feat, '__func__', None) not in PLAIN:
        return True
    if getattr(module, 'sampler', None) is not None or module.out_channels == 1:
        return True
    losses = [each for each in module.modules() if hasattr(each, 'loss_name')]
    return any(not isinstance(loss, CrossEntropyLoss) or loss.use_sigmoid for loss in losses)
