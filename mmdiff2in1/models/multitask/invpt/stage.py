"""A stage of InvPT's decoder: maps of all tasks twice as large as before, a skip added, one transformer block."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ...backbones.vit_parts import FeedForward
from .layers import conv_norm_relu, enlarged
from .message_attention import MessageAttention


class Stage(nn.Module):
    """Stage i.

    Args:
        tasks: Names of the tasks.
        number: i; the first has neither embeddings nor a skip nor messages.
        before: C_{i−1}.
        width: C_i.
        norm_cfg: Of the convolutions.
    """

    def __init__(self, tasks: Iterable[str], number: int, before: int, width: int, norm_cfg: dict) -> None:
        super().__init__()
        tasks = list(tasks)
        self.embeddings = nn.ModuleDict(
            {
                task: nn.Sequential(
                    conv_norm_relu(before, width, norm_cfg, dilation=2),
                    conv_norm_relu(width, width, norm_cfg, dilation=2),
                )
                for task in (tasks if number else ())
            }
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MessageAttention(tasks, width, 2 * 2**number, number > 0, norm_cfg)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor, skip: Tensor | None, scores: Tensor | None) -> tuple[Tensor, Tensor]:
        """Maps (B, T, h, w, C_i) and the scores of their attention.

        Args:
            x: Maps of the stage before; of stage 0 its own.
            skip: (B, C_i, h, w), the same for all tasks; None for stage 0.
            scores: Of the stage before, see `MessageAttention`; None for stage 0.
        """
        if skip is not None:
            size = (int(skip.shape[-2]), int(skip.shape[-1]))
            maps = [
                embed(enlarged(x[:, t].movedim(-1, 1), 2, size)) + skip
                for t, embed in enumerate(self.embeddings.values())
            ]
            x = torch.stack(maps, dim=1).movedim(2, -1)
        read, scores = self.attention(self.norm1(x), scores)
        x = x + read
        return x + self.mlp(self.norm2(x)), scores
