"""TaskHeads: one decode head for each task, on the same features. B samples; C_k channels of task k."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.tasks import TaskSet


@MODELS.register_module()
class TaskHeads(BaseModule):
    """The decode head of a segmentor with `tasks`: any heads side by side, losses as `<task>.<name>`.

    A head for classes is mmseg's as it is; one for a continuous task is a `DenseTaskHead` around any of mmseg's, or one
    of this package's. The output is that of all, one behind the other, (B, Σ C_k, H, W), see `TaskSet.split`.

    Args:
        tasks: What is predicted, see `TaskSet`; the same as the segmentor's.
        heads: Task → config of its head.

    Raises:
        ValueError: Other tasks than heads, or a head with other channels than its task.
    """

    def __init__(self, tasks: dict | Sequence, heads: Mapping[str, dict], init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.tasks = TaskSet(tasks)
        if set(heads) != set(self.tasks):
            raise ValueError(f'found heads for {", ".join(heads)}, expected one for each of {", ".join(self.tasks)}')
        self.heads = nn.ModuleDict({name: MODELS.build(heads[name]) for name in self.tasks})
        for name, task in self.tasks.items():
            if self.heads[name].out_channels != task.channels:
                raise ValueError(
                    f'the head of {name} puts out {self.heads[name].out_channels} channels, {task!r} has '
                    f'{task.channels}; give both the same task'
                )
        self.num_classes = self.out_channels = self.tasks.channels
        self.align_corners = all(head.align_corners for head in self.heads.values())

    def forward(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Feature maps → raw output of each head."""
        return {name: head(inputs) for name, head in self.heads.items()}

    # mmseg's: forward, then loss_by_feat or predict_by_feat.
    loss = BaseDecodeHead.loss
    predict = BaseDecodeHead.predict

    def loss_by_feat(self, outputs: Mapping[str, Tensor], batch_data_samples: list) -> dict[str, Tensor]:
        """Losses of all heads; samples must have all fields, see `TaskSet.completed`."""
        losses = {}
        for name, head in self.heads.items():
            for key, value in head.loss_by_feat(outputs[name], batch_data_samples).items():
                losses[f'{name}.{key}'] = value
        return losses

    def predict_by_feat(self, outputs: Mapping[str, Tensor], batch_img_metas: list[dict]) -> Tensor:
        """Outputs (B, Σ C_k, H, W) at the size of the inputs."""
        parts = [head.predict_by_feat(outputs[name], batch_img_metas) for name, head in self.heads.items()]
        return torch.cat([part.float() for part in parts], dim=1)
