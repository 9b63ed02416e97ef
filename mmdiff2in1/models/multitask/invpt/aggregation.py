"""From the maps of all stages to the prediction of a task at 1/4."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv_norm_relu, enlarged


class JointNorm(nn.Module):
    """One layer normalisation over the channels of all tasks together, T · C_i; its parameters are kept by task."""

    def __init__(self, tasks: Iterable[str], width: int) -> None:
        super().__init__()
        self.tasks = list(tasks)  # a ParameterDict sorts its names
        self.weights = nn.ParameterDict({task: torch.ones(width) for task in self.tasks})
        self.biases = nn.ParameterDict({task: torch.zeros(width) for task in self.tasks})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, T, h, w, C) → (B, C, h, w) of each task."""
        T, C = x.shape[1], x.shape[-1]
        joint = x.movedim(1, 3).flatten(3)  # (B, h, w, T · C)
        weight, bias = (torch.cat([each[task] for task in self.tasks]) for each in (self.weights, self.biases))
        parts = F.layer_norm(joint, (T * C,), weight, bias).unflatten(3, (T, C))
        return tuple(part.movedim(-1, 1) for part in parts.unbind(3))


class TaskOutput(nn.Module):
    """The maps of one task from all stages, summed at 1/4; a convolution, and the prediction.

    This is where the memory of a training goes: 576 channels at 1/4, of every task, before and behind each layer.

    Args:
        widths: C_0, C_1, C_2.
        predicted: Channels of the task.
        norm_cfg: Of the convolution.
    """

    def __init__(self, widths: Sequence[int], predicted: int, norm_cfg: dict) -> None:
        super().__init__()
        self.reduce = nn.ModuleList([nn.Identity(), *(nn.Conv2d(width, widths[0], 1) for width in widths[1:])])
        self.layers = conv_norm_relu(widths[0], widths[0], norm_cfg, bias=True)
        nn.init.trunc_normal_(self.layers[0].weight, std=0.02)
        self.predict = nn.Conv2d(widths[0], predicted, 1)

    def forward(self, *maps: Tensor) -> Tensor:
        """(B, C_i, h_i, w_i) of each stage → raw prediction (B, C, 2 h_2, 2 w_2)."""
        size = (2 * int(maps[-1].shape[-2]), 2 * int(maps[-1].shape[-1]))
        parts = [
            enlarged(reduce(x), 2 ** (len(maps) - i), size)
            for i, (reduce, x) in enumerate(zip(self.reduce, maps, strict=True))
        ]
        return self.predict(self.layers(sum(parts[1:], parts[0])))
