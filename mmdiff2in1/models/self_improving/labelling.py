"""Targets of the created images in a batch: what the label rule makes of them, anew at every step.

S created images; C channels of the outputs, c of a target; H, W the padded crop that θ_E sees.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import Tensor

from mmdiff2in1.tasks import VALID_REGION, DenseTask, TaskSet
from mmdiff2in1.tasks.soft_classes import FIELD, TOPK_OF, from_topk

from ..image_region import image_region
from . import class_borders as borders
from .label_rules import Label, LabelRule


@torch.no_grad()
def labelled(
    rule: LabelRule,
    creator: Any,
    inputs: Any,
    samples: list,
    tasks: TaskSet,
    size: tuple[int, int],
    edges: bool = False,
) -> tuple[list, dict[str, Tensor]]:
    """Created images with the labels that a rule gives them (Diff-2-in-1, self-improving stage).

    Args:
        rule: Decides what they are taught with.
        creator: Who looks: θ_C, in eval mode, or teachers in front of these images.
        inputs: What its `encode_decode` takes for these samples: images (S, 3, H, W) or frozen features of them.
        samples: S samples; they are not changed.
        tasks: What is predicted.
        size: (H, W).
        edges: Whether a head asks for borders of classes, see `class_borders`: they are those of the label in use.

    Returns:
        Copies of the samples with these targets (c, H, W), and weights where the rule gives some, invalid in the
        padding beside the image and outside the `gt_valid_region` of a sample that has one; and by task the share of
        pixels outside the padding that teach something, 0-dim tensors in [0, 1].
    """
    device = getattr(inputs, 'device', None)
    outputs: Mapping[str, Tensor] = {}
    if rule.reads_outputs:
        # mmseg resizes logits to `img_shape` if it is a torch.Size, which stack_batch sets to the shape before padding:
        # the map would be squeezed. All shapes are therefore those of the crop as θ_E sees it.
        metas = [dict(sample.metainfo, ori_shape=size, img_shape=size, pad_shape=size) for sample in samples]
        output = rule.look(creator, inputs, metas, tasks)
        outputs, device = tasks.split(output), output.device
    given = _given(samples, tasks, size, device) if rule.reads_given else {}
    padding = _padding(samples, size, device)
    left_out = padding | _never_labelled(samples, padding)
    labels = {name: _without(tasks[name], label, left_out) for name, label in rule.label(given, outputs, tasks).items()}
    # Other ground truth is left behind, an edge map for instance: it was derived from another label.
    copies = [sample.new() if rule.reads_given else type(sample)(metainfo=sample.metainfo) for sample in samples]
    for name, task in tasks.items():
        label = labels.get(name)
        for i, copy in enumerate(copies):
            target = task.unknown_target(size, device) if label is None else label.target[i]
            fields = {task.field: PixelData(data=target)}
            if label is not None and label.weight is not None:
                fields[task.weight_field] = PixelData(data=label.weight[i])
            if edges and task.field == 'gt_sem_seg' and len(target) == 1:
                width = copy.metainfo.get(borders.WIDTH, 3)
                fields[borders.FIELD] = PixelData(data=borders.class_borders(target, task, width))
            copy.set_data(fields)
    inside = (~padding).sum()
    shares = {name: (_taught(tasks[name], label) & ~padding).sum() / inside for name, label in labels.items()}
    return copies, shares


def _given(samples: list, tasks: TaskSet, size: tuple[int, int], device: torch.device | None) -> dict[str, Tensor]:
    """By task what the samples brought along (S, c, H, W); probabilities (S, K, H, W) where one has a top-k map."""
    given = tasks.targets(samples, size, device)
    for name, task in tasks.items():
        if task.field == TOPK_OF and any(FIELD in sample for sample in samples):
            target = given[name].where(task.valid(given[name]), task.num_classes)[:, 0]
            soft = F.one_hot(target, task.num_classes + 1).movedim(-1, 1)[:, :-1].float()
            for own, sample in zip(soft, samples, strict=True):
                topk = sample.get(FIELD)
                if topk is not None:
                    height, width = topk.data.shape[-2:]
                    rows, columns = image_region(sample.metainfo, size)
                    place = slice(rows.start, rows.start + height), slice(columns.start, columns.start + width)
                    own.zero_()[:, *place] = from_topk(topk.data.to(own.device), task.num_classes)
            given[name] = soft
    return given


def _without(task: DenseTask, label: Label, left_out: Tensor) -> Label:
    """A label that teaches nothing where `left_out` (S, 1, H, W) is true."""
    if _soft(task, label.target):
        return Label(label.target.masked_fill(left_out, 0), label.weight)
    return Label(task.invalidate(label.target, left_out | ~task.valid(label.target)), label.weight)


def _taught(task: DenseTask, label: Label) -> Tensor:
    """(S, 1, H, W): where a label teaches something."""
    soft = _soft(task, label.target)
    valid = (label.target != 0).any(1, keepdim=True) if soft else task.valid(label.target)
    return valid if label.weight is None else valid & (label.weight > 0)


def _soft(task: DenseTask, target: Tensor) -> bool:
    """True if a target holds class probabilities."""
    return target.shape[1] != task.target_channels


def _padding(samples: list, size: tuple[int, int], device: torch.device | None) -> Tensor:
    """(S, 1, H, W), True beside the image: where the data preprocessor pads."""
    padding = torch.ones(len(samples), 1, *size, dtype=torch.bool, device=device)
    for mask, sample in zip(padding, samples, strict=True):
        mask[:, *image_region(sample.metainfo, size)] = False
    return padding


def _never_labelled(samples: list, padding: Tensor) -> Tensor:
    """(S, 1, H, W), True where the data set never has ground truth: the border of NYUv2's images, for instance."""
    regions = [sample.get(VALID_REGION) for sample in samples]
    masks = [padding[0] & False if region is None else ~region.data for region in regions]
    return torch.stack(masks).to(padding.device)
