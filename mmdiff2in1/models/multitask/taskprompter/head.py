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
from mmdiff2in1.tasks import TaskSet

from ...recomputing import recomputed
from ..task_losses import task_loss, task_output, weights_of


class Branch(nn.Module):
    """The head of one task: four times larger, 3 × 3 convolution, norm, GELU, 1 × 1 convolution.

    Of the four large maps, (B, F, 4h, 4w) each, the norm's input alone is kept for the backward pass; the enlarged one,
    and what norm and GELU give, are computed anew. No convolution runs twice: it is the last layer of its piece.
    """

    def __init__(self, channels: int, outputs: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.output = nn.Sequential(build_norm_layer(norm_cfg, channels)[1], nn.GELU(), nn.Conv2d(channels, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, h, w) → (B, C_k, 4h, 4w)."""
        return recomputed(self.output, recomputed(self._smooth, x))

    def _smooth(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=4, mode='bilinear', align_corners=False))


@MODELS.register_module()
class TaskPrompterHead(BaseModule):
    """A branch for each task on that task's map, and the losses that TaskPrompter is trained with.

    The output is that of all tasks one behind the other, (B, Σ C_k, H, W), see `TaskSet.split`: logits, metres as the
    last layer gives them, vectors at unit length.

    Args:
        tasks: What is predicted, see `TaskSet`; the same as the backbone's, in its order.
        channels: F.
        task_weights: Task → factor of its loss; None, and for tasks that are not named: `TASK_WEIGHTS`, else 1.
        norm_cfg: Of the batch norms; of several processes, `sync_bn='torch'` in the config synchronises them, as
            published.

    Raises:
        ValueError: Factors of tasks that are not predicted.
    """

    def __init__(
        self,
        tasks: Any,
        channels: int = 768,
        task_weights: Mapping[str, float] | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.tasks = TaskSet(tasks)
        self.task_weights = weights_of(self.tasks, task_weights)
        norm = dict(type='BN') if norm_cfg is None else norm_cfg
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
            losses[f'{name}.loss'] = self.task_weights[name] * task_loss(task, output, target, weight)
        return losses

    def predict_by_feat(self, outputs: Mapping[str, Tensor], batch_img_metas: list[dict]) -> Tensor:
        """Outputs (B, Σ C_k, H, W) at the size of the inputs."""
        size = input_size(batch_img_metas)
        return torch.cat(
            [task_output(task, _enlarged(outputs[name], size)) for name, task in self.tasks.items()], dim=1
        )


def _enlarged(raw: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(raw.float(), size, mode='bilinear', align_corners=False)
