"""TaskPrompterHead: the decode head of TaskPrompter, for all tasks at once.

B samples; F channels of a task's map; C_k channels of task k; h × w map, H × W image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.models.decode_heads.dense_task_head import input_size, targets
from mmdiff2in1.models.recomputing import recomputed
from mmdiff2in1.tasks import DenseTask, Depth, TaskSet

from ..task_losses import TASK_WEIGHTS, task_loss


class Branch(nn.Module):
    """The head of one task: four times larger, 3 × 3 convolution, norm, GELU, 1 × 1 convolution."""

    def __init__(self, channels: int, outputs: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.output = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, h, w) → (B, C_k, 4h, 4w). The backward pass keeps one of the four large maps, the norm's input."""
        x = recomputed(self._enlarged, x)
        return recomputed(lambda large: self.output(F.gelu(self.norm(large))), x, norms=[self.norm])

    def _enlarged(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=4, mode='bilinear', align_corners=False))


@MODELS.register_module()
class TaskPrompterHead(BaseModule):
    """A branch for each task on that task's map, and the losses that TaskPrompter is trained with.

    The output is that of all tasks one behind the other, (B, Σ C_k, H, W), see `TaskSet.split`: logits, metres as they
    are (no activation, at least 0 in predictions), vectors at unit length.

    Args:
        tasks: What is predicted, see `TaskSet`; the same as the backbone's, in its order.
        channels: F.
        loss_weights: Task → factor of its loss, for tasks whose factor is not `TASK_WEIGHTS`'.
        norm_cfg: Of the batch norms; None: SyncBN.

    Raises:
        ValueError: A factor for a task that is not there, or a task without one.
    """

    def __init__(
        self,
        tasks: Any,
        channels: int = 768,
        loss_weights: Mapping[str, float] | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.tasks = TaskSet(tasks)
        self.loss_weights = {**TASK_WEIGHTS, **(loss_weights or {})}
        strange = [name for name in loss_weights or () if name not in self.tasks]
        lacking = [name for name in self.tasks if name not in self.loss_weights]
        if strange or lacking:
            raise ValueError(
                f'loss_weights: found some for {", ".join(strange) or "no other task"}, none for '
                f'{", ".join(lacking) or "no task"}; expected one for each of {", ".join(self.tasks)}'
            )
        norm = dict(type='SyncBN') if norm_cfg is None else norm_cfg
        self.branches = nn.ModuleDict(
            {name: Branch(channels, task.channels, norm) for name, task in self.tasks.items()}
        )
        self.num_classes = self.out_channels = self.tasks.channels
        self.align_corners = False

    def forward(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """One map (B, F, h, w) for each task → raw outputs (B, C_k, 4h, 4w) by task.

        Raises:
            ValueError: Another number of maps.
        """
        if len(inputs) != len(self.branches):
            raise ValueError(
                f'the backbone gave {len(inputs)} maps, the head has {len(self.branches)} tasks: '
                f'{", ".join(self.tasks)}; give both the same tasks'
            )
        return {name: branch(x) for (name, branch), x in zip(self.branches.items(), inputs, strict=True)}

    # mmseg's: forward, then loss_by_feat or predict_by_feat.
    loss = BaseDecodeHead.loss
    predict = BaseDecodeHead.predict

    def loss_by_feat(self, outputs: Mapping[str, Tensor], batch_data_samples: list) -> dict[str, Tensor]:
        """`<task>.loss` of each task, weighed; samples must have all fields, see `TaskSet.completed`."""
        losses = {}
        for name, task in self.tasks.items():
            target, weight = targets(batch_data_samples, task)
            output = _enlarged(outputs[name], (int(target.shape[2]), int(target.shape[3])))
            losses[f'{name}.loss'] = self.loss_weights[name] * task_loss(task, output, target, weight)
        return losses

    def predict_by_feat(self, outputs: Mapping[str, Tensor], batch_img_metas: list[dict]) -> Tensor:
        """Outputs (B, Σ C_k, H, W) at the size of the inputs."""
        size = input_size(batch_img_metas)
        return torch.cat([_final(task, _enlarged(outputs[name], size)) for name, task in self.tasks.items()], dim=1)


def _enlarged(raw: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(raw.float(), size, mode='bilinear', align_corners=False)


def _final(task: DenseTask, raw: Tensor) -> Tensor:
    """Depth is in metres without an activation; the rest is as of any head."""
    return raw.clamp(min=0) if isinstance(task, Depth) else task.head_output(raw)
