"""Scores of predictions over a whole part, every pixel pooled.

B, c, H, W: prediction and target of a batch; K classes.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from mmdiff2in1.tasks import DenseTask


def scores(task: DenseTask, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Scores of (output, target) batches; an output is a segmentor's, at any size, resized to its target here.

    Normals: ``mean``, ``median``, ``rmse`` of the angle in degrees, and the share (%) of pixels within 11.25, 22.5 and
    30 degrees. Segmentation: ``mIoU`` and ``IoU/<class>`` in %. Depth: ``rmse`` in metres, ``abs_rel``, and ``delta1``
    in %.
    """
    resized = ((task.resize_output(output, tuple(target.shape[-2:])), target) for output, target in batches)
    return SCORES[task.name](task, resized)


def _normal(task: DenseTask, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    angles = []
    for output, target in batches:
        cosine = (output * target).sum(1, keepdim=True)[task.valid(target)]
        angles.append(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))))
    angle = torch.cat(angles)
    within = {f'{limit:g}': 100 * (angle < limit).float().mean().item() for limit in (11.25, 22.5, 30.0)}
    return {
        'mean': angle.mean().item(),
        'median': angle.median().item(),
        'rmse': angle.square().mean().sqrt().item(),
        **within,
    }


def _segmentation(task: DenseTask, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    K = task.channels
    confusion = torch.zeros(K, K, dtype=torch.int64)
    for output, target in batches:
        known = task.valid(target)[:, 0]
        pairs = target[:, 0][known].long() * K + output.argmax(1)[known]
        confusion += torch.bincount(pairs, minlength=K * K).view(K, K).cpu()
    hits = confusion.diag().double()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    iou = 100 * hits / union  # nan for a class that is neither there nor predicted
    return {'mIoU': iou.nanmean().item(), **{f'IoU/{k}': value for k, value in enumerate(iou.tolist())}}


def _depth(task: DenseTask, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    errors, ratios = [], []
    for output, target in batches:
        known = task.valid(target)
        predicted, true = output[known], target[known]
        errors.append(predicted - true)
        ratios.append(predicted / true)
    error, ratio = torch.cat(errors), torch.cat(ratios)
    return {
        'rmse': error.square().mean().sqrt().item(),
        'abs_rel': (ratio - 1).abs().mean().item(),
        'delta1': 100 * (torch.maximum(ratio, 1 / ratio) < 1.25).float().mean().item(),
    }


SCORES = {'normal': _normal, 'semantic_segmentation': _segmentation, 'depth': _depth}
