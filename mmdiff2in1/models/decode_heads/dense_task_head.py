"""DenseTaskHead: any mmseg decode head as a head for any task. B samples, C channels of the task."""

import inspect
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.tasks import DenseTask, TaskSet, stacked_targets


@MODELS.register_module()
class DenseTaskHead(BaseDecodeHead):
    """The layers of a decode head, with the task's output, loss and encoding instead of mmseg's classes.

    Depth: a sigmoid times the largest depth; normals: unit vectors, and κ with `kappa=True`; human parts, saliency and
    edges: logits.

    Args:
        head: Any mmseg decode head that keeps mmseg's `loss` (FPNHead, UPerHead, SegformerHead …), without
            `num_classes` and `loss_decode`.
        task: A task, or its TASK_UTILS config.
        loss_decode: One loss or several; None: the task's own.

    Raises:
        TypeError: A head with a `loss` of its own, which knows classes only.
    """

    def __init__(
        self,
        head: dict,
        task: dict | DenseTask,
        loss_decode: dict | Sequence[dict] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        BaseModule.__init__(self, init_cfg)  # the layers are the other head's
        self.task = TaskSet(task).only
        # mmseg's heads warn of fewer than two classes with softmax; depth has one channel.
        self.head = MODELS.build(
            dict(head, num_classes=max(2, self.task.channels), out_channels=self.task.channels, threshold=0.5)
        )
        if type(self.head).loss is not BaseDecodeHead.loss:
            raise TypeError(
                f'{type(self.head).__name__} has a loss of its own, for classes; expected a head with forward alone, '
                'such as FPNHead, UPerHead or SegformerHead'
            )
        self.head.loss_decode = nn.Identity()
        self.loss_decode = build_losses(loss_decode or self.task.loss)
        self.align_corners = self.head.align_corners
        self.in_channels, self.in_index = self.head.in_channels, self.head.in_index
        self.num_classes = self.out_channels = self.task.channels

    def extra_repr(self) -> str:
        """Beside the layers."""
        return f'task={self.task!r}'

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Feature maps → raw output (B, C, h, w)."""
        return self.head(inputs)

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Losses of the output at the size of the ground truth."""
        target, weight = targets(batch_data_samples, self.task)
        output = self._output(seg_logits, tuple(target.shape[-2:]))
        return summed_losses(self.loss_decode, output, target, weight)

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Output (B, C, H, W) at the size of the inputs."""
        return self._output(seg_logits, input_size(batch_img_metas))

    def _output(self, raw: Tensor, size: tuple[int, int]) -> Tensor:
        output = self.task.head_output(raw.float())
        return self.task.resize_output(output, size, self.align_corners)


def input_size(batch_img_metas: Sequence[dict]) -> tuple[int, int]:
    """(H, W) of the images as the backbone saw them, padding included, by mmseg's rule.

    A `torch.Size` as `img_shape` is the window of a sliding inference; else `pad_shape` counts where there is one.
    """
    meta = batch_img_metas[0]
    windowed = isinstance(meta['img_shape'], torch.Size)
    height, width = (meta['img_shape'] if windowed else meta.get('pad_shape') or meta['img_shape'])[:2]
    return int(height), int(width)


def targets(batch_data_samples: Sequence, task: DenseTask) -> tuple[Tensor, Tensor | None]:
    """Ground truth (B, c, H, W), and the weights (B, 1, H, W) of its pixels where a label rule gave some.

    Of classes also probabilities (B, K, H, W), see `stacked_targets`.

    Raises:
        ValueError: None of the samples has ground truth.
    """
    weights = [sample.get(task.weight_field) for sample in batch_data_samples]
    target = stacked_targets(task, batch_data_samples)
    if all(weight is None for weight in weights):
        return target, None
    ones = torch.ones_like(target[0, :1], dtype=torch.float32)
    return target, torch.stack([ones if weight is None else weight.data.to(ones) for weight in weights])


def build_losses(configs: dict | Sequence[dict]) -> nn.ModuleList:
    """Losses of a config, one or several."""
    return nn.ModuleList(MODELS.build(config) for config in ([configs] if isinstance(configs, dict) else configs))


def summed_losses(
    losses: nn.ModuleList, output: Tensor, target: Tensor, weight: Tensor | None = None
) -> dict[str, Tensor]:
    """`loss_name` → value, the mean over the pixels that count; losses of one name are added, as mmseg does.

    Raises:
        ValueError: Weights, and a loss that takes none.
    """
    found: dict[str, Tensor] = {}
    for loss in losses:
        if weight is not None and 'weight' not in inspect.signature(loss.forward).parameters:
            raise ValueError(
                f'{type(loss).__name__} takes no weight per pixel: forward(output, target, weight=None) was expected, '
                'weight (B, 1, H, W); or choose a label rule without weights, and synthetic_weight=1 where '
                "normalize_by='pooled'"
            )
        value = loss(output, target) if weight is None else loss(output, target, weight=weight)
        found[loss.loss_name] = found[loss.loss_name] + value if loss.loss_name in found else value
    return found
