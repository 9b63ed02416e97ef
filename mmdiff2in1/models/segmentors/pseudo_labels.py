"""Targets of the synthetic samples in a batch: what θ_C sees in them, predicted anew at every step.

S synthetic samples; K channels of the logits, c of the target; H, W the padded crop that θ_E sees.
"""

import math
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor

from mmdiff2in1.tasks import VALID_REGION, DenseTask


@torch.no_grad()
def pseudo_labels(
    creator: Any,
    inputs: Any,
    samples: list,
    task: DenseTask,
    size: tuple[int, int],
    min_confidence: float | None = None,
) -> tuple[list, Tensor]:
    """y' = θ_C(x'): the labels from which θ_E learns synthetic images (Diff-2-in-1, self-improving stage).

    Args:
        creator: θ_C, in eval mode.
        inputs: What its `encode_decode` takes for these samples: images (S, 3, H, W) or frozen features of them.
        samples: S samples; they are not changed.
        task: What is predicted.
        size: (H, W).
        min_confidence: Pixels of less confidence are invalid; None: none is.

    Returns:
        Copies of the samples with the prediction (c, H, W) as their only target, invalid in the padding beyond
        `img_shape` and outside the `gt_valid_region` of a sample that has one; and the share of pixels outside the
        padding that are valid, a 0-dim tensor in [0, 1].
    """
    # mmseg resizes logits to `img_shape` if it is a torch.Size, which stack_batch sets to the shape before padding:
    # the map would be squeezed. All shapes are therefore those of the crop as θ_E sees it.
    metas = [dict(sample.metainfo, ori_shape=size, img_shape=size, pad_shape=size) for sample in samples]
    logits = creator.encode_decode(inputs, metas).float()
    if logits.shape[1] == 1 and task.channels == 2:
        logits = _as_two_classes(logits, _last(creator.decode_head).threshold)
    target, confidence = task.pseudo_label(logits)

    padding = _padding(samples, size, logits.device)
    left_out = padding | _never_labelled(samples, padding)
    if min_confidence is not None:
        left_out = left_out | ~(confidence >= min_confidence)  # NaN is no confidence
    target = task.invalidate(target, left_out)
    labelled = [_with_target(sample, task.field, map_) for sample, map_ in zip(samples, target, strict=True)]
    return labelled, _kept_share(task, target, padding)


def stored_label_share(samples: list, task: DenseTask, size: tuple[int, int]) -> Tensor:
    """Share of the pixels outside the padding that have a valid stored label, 0-dim in [0, 1]."""
    target = torch.stack([sample.get(task.field).data for sample in samples])
    return _kept_share(task, target, _padding(samples, size, target.device))


def _kept_share(task: DenseTask, target: Tensor, padding: Tensor) -> Tensor:
    return (task.valid(target) & ~padding).sum() / (~padding).sum()


def _padding(samples: list, size: tuple[int, int], device: torch.device) -> Tensor:
    """(S, 1, H, W), True right of and below the image: where stack_batch pads."""
    padding = torch.zeros(len(samples), 1, *size, dtype=torch.bool, device=device)
    for mask, sample in zip(padding, samples, strict=True):
        height, width = sample.metainfo.get('img_shape', size)[:2]
        mask[:, height:] = True
        mask[:, :, width:] = True
    return padding


def _never_labelled(samples: list, padding: Tensor) -> Tensor:
    """(S, 1, H, W), True where the data set never has ground truth: the border of NYUv2's images, for instance."""
    regions = [sample.get(VALID_REGION) for sample in samples]
    masks = [padding[0] & False if region is None else ~region.data for region in regions]
    return torch.stack(masks).to(padding.device)


def _with_target(sample: Any, field: str, target: Tensor) -> Any:
    """A sample with the same metainfo and this target alone; the caller's sample stays as it is.

    Other ground truth is left behind, an edge map for instance: it was derived from the label in the store.
    """
    labelled = type(sample)(metainfo=sample.metainfo)
    labelled.set_data({field: PixelData(data=target)})
    return labelled


def _as_two_classes(logits: Tensor, threshold: float) -> Tensor:
    """(S, 1, H, W) foreground logits as (S, 2, H, W): the argmax is mmseg's `sigmoid > threshold`."""
    return torch.cat([torch.zeros_like(logits), logits - math.log(threshold / (1 - threshold))], dim=1)


def _last(head: Any) -> Any:
    return head[-1] if isinstance(head, torch.nn.ModuleList) else head
