"""InvPTHead: one decode head for all tasks; see the package for the letters."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.tasks import DenseTask, TaskSet

from ...backbones.vit_parts import init_linear
from ...decode_heads.dense_task_head import input_size, targets
from ...recomputing import recomputed
from ..task_losses import task_loss, task_output, weights_of
from .aggregation import JointNorm, TaskOutput
from .layers import COARSEST, at_size, enlarged
from .preliminary import Preliminary
from .stage import Stage

FINE, MIDDLE = 8, 16
"""Strides on which the skips land."""


@MODELS.register_module()
class InvPTHead(BaseModule):
    """The decoder of InvPT on three maps of a backbone, for any set of tasks and any size of images.

    A first prediction at 1/32 and a final one at 1/4 are both brought to the size of the labels and get the same losses
    (`task_loss`) and factors (`TASK_WEIGHTS`): deep supervision. Depth is what the last layer puts out, in metres.

    What the published code computes without any effect is left out: a third skip, a projection of the first stage's
    maps, a norm, the fusion of scores in the first stage. Sides of the images need not be multiples of 64.

    Args:
        tasks: What is predicted, see `TaskSet`; the same as the segmentor's.
        in_channels: Widths of three maps of the backbone: of the skip at 1/8, of that at 1/16, and of the features.
        in_index: Which maps these are; as published, after blocks 6 and 12, and the last, of `ViTLevels`.
        in_strides: Their strides. A skip at twice the stride where it must land goes through a transposed convolution.
            Of a U-Net: what `DiffusionPyramidAdapter(out_strides=(8, 16, 32), …)` gives, (8, 16, 32).
        channels: Of the features in the preliminary decoder.
        widths: C_0, C_1, C_2.
        task_weights: Task → factor of its losses; None, and for tasks that are not named: `TASK_WEIGHTS`, else 1.
        preliminary_weight: Factor of the losses of the first prediction, in addition.
        norm_cfg: Of the convolutions; of several processes, `sync_bn='torch'` in the config synchronises it, as
            published.
        checkpointing: In training, stages, outputs and losses are computed again in the backward pass: the same numbers
            from 57 instead of 833 MiB an image (four tasks, 448 × 576), for about an eighth more arithmetic.

    Raises:
        ValueError: Skips that cannot land on 1/8 and 1/16, widths that two heads cannot share, or factors of tasks that
            are not predicted.
    """

    def __init__(
        self,
        tasks: dict | Sequence,
        in_channels: Sequence[int] = (1024, 1024, 1024),
        in_index: Sequence[int] = (0, 1, 3),
        in_strides: Sequence[int] = (16, 16, 16),
        channels: int = 512,
        widths: Sequence[int] = (576, 288, 144),
        task_weights: Mapping[str, float] | None = None,
        preliminary_weight: float = 1.0,
        norm_cfg: dict | None = None,
        checkpointing: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not len(in_channels) == len(in_index) == len(in_strides) == len(widths) == 3 or any(w % 2 for w in widths):
            raise ValueError(
                f'in_channels={tuple(in_channels)}, in_index={tuple(in_index)}, in_strides={tuple(in_strides)}, '
                f'widths={tuple(widths)}: expected three of each, the widths even'
            )
        self.tasks = TaskSet(tasks)
        self.task_weights = weights_of(self.tasks, task_weights)
        self.preliminary_weight, self.checkpointing = preliminary_weight, checkpointing
        self.in_index, self.in_strides = list(in_index), list(in_strides)
        self.num_classes = self.out_channels = self.tasks.channels
        self.align_corners = False
        norm = dict(type='BN') if norm_cfg is None else norm_cfg
        self.fine = _skip(in_channels[0], widths[2], in_strides[0], FINE)
        self.middle = _skip(in_channels[1], widths[1], in_strides[1], MIDDLE)
        self.preliminary = nn.ModuleDict(
            {
                name: Preliminary(in_channels[2], channels, task.channels, widths[0], norm)
                for name, task in self.tasks.items()
            }
        )
        self.stages = nn.ModuleList(Stage(self.tasks, i, widths[max(i - 1, 0)], widths[i], norm) for i in range(3))
        self.norms = nn.ModuleList(JointNorm(self.tasks, width) for width in widths)
        self.outputs = nn.ModuleDict(
            {name: TaskOutput(widths, task.channels, norm) for name, task in self.tasks.items()}
        )
        self.apply(init_linear)

    def forward(self, inputs: Sequence[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Maps of the backbone → by task its raw prediction (B, C, H/4, W/4) and the first one (B, C, H/32, W/32).

        Raises:
            ValueError: Skips whose sizes are not those of strides 8 and 16 of one image.
        """
        fine, middle, features = (inputs[i] for i in self.in_index)
        skips = [None, self.middle(middle), self.fine(fine)]
        size = _coarsest(*(tuple(skip.shape[-2:]) for skip in skips[1:]))
        features = self._at_coarsest(features, size)
        mixed, first = zip(*(decode(features) for decode in self.preliminary.values()), strict=True)
        x, scores, levels = torch.stack(mixed, dim=1).movedim(2, -1), None, []
        for stage, norm, skip in zip(self.stages, self.norms, skips, strict=True):
            x, scores = self._run(stage, x, skip, scores)
            levels.append(norm(x))
        return {
            name: (self._run(self.outputs[name], *(maps[t] for maps in levels)), first[t])
            for t, name in enumerate(self.tasks)
        }

    # mmseg's: forward, then loss_by_feat or predict_by_feat.
    loss = BaseDecodeHead.loss
    predict = BaseDecodeHead.predict

    def loss_by_feat(self, outputs: Mapping[str, tuple[Tensor, Tensor]], batch_data_samples: list) -> dict[str, Tensor]:
        """`<task>.loss` and `<task>.loss_preliminary`; samples must have all fields, see `TaskSet.completed`."""
        losses = {}
        for name, task in self.tasks.items():
            target, weight = targets(batch_data_samples, task)
            final, first = outputs[name]
            factor = self.task_weights[name]
            losses[f'{name}.loss'] = factor * self._loss(task, final, 4, target, weight)
            losses[f'{name}.loss_preliminary'] = (
                factor * self.preliminary_weight * self._loss(task, first, COARSEST, target, weight)
            )
        return losses

    def predict_by_feat(self, outputs: Mapping[str, tuple[Tensor, Tensor]], batch_img_metas: list[dict]) -> Tensor:
        """Outputs (B, Σ C_k, H, W) at the size of the inputs: logits, metres, unit vectors."""
        size = input_size(batch_img_metas)
        parts = [task_output(task, at_size(outputs[name][0].float(), 4, size)) for name, task in self.tasks.items()]
        return torch.cat(parts, dim=1)

    def _loss(self, task: DenseTask, raw: Tensor, stride: int, target: Tensor, weight: Tensor | None) -> Tensor:
        size = (int(target.shape[-2]), int(target.shape[-1]))

        def loss(raw: Tensor) -> Tensor:
            return task_loss(task, at_size(raw.float(), stride, size), target, weight)

        return self._run(loss, raw)

    def _run(self, function: Any, *inputs: Any) -> Any:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return recomputed(function, *inputs)
        return function(*inputs)

    def _at_coarsest(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The backbone's features at 1/32; an odd last row or column counts twice, so that all cells stay in place."""
        stride = self.in_strides[2]
        if stride > COARSEST:
            return enlarged(features, stride // COARSEST, size)
        cells = COARSEST // stride
        bottom, right = (max(0, cells * side - own) for side, own in zip(size, features.shape[-2:], strict=True))
        if bottom or right:
            features = F.pad(features, (0, right, 0, bottom), mode='replicate')
        return F.interpolate(features, size, mode='bilinear', align_corners=False)


def _skip(before: int, after: int, stride: int, target: int) -> nn.Module:
    """A 3 × 3 convolution from a map at `stride` to one at `target`."""
    if stride == target:
        return nn.Conv2d(before, after, 3, padding=1)
    if stride == 2 * target:
        return nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)
    raise ValueError(
        f'a skip at stride {stride} cannot land on 1/{target}: expected {target} or {2 * target}; '
        'DiffusionPyramidAdapter(out_strides=(8, 16, 32), …) as the neck brings any pyramid there'
    )


def _coarsest(middle: tuple[int, ...], fine: tuple[int, ...]) -> tuple[int, int]:
    """Size of the maps at 1/32."""
    if any(math.ceil(b / 2) != a for a, b in zip(middle, fine, strict=True)):
        raise ValueError(
            f'the skips have {middle} and {fine} cells, expected those of one image at 1/16 and 1/8; do in_index and '
            'in_strides name the maps that the backbone gives?'
        )
    return math.ceil(middle[0] / 2), math.ceil(middle[1] / 2)
