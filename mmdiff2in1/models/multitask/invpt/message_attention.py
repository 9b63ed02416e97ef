"""Attention among all tasks whose scores take in those of the coarser stage: InvPT's messages.

q_h, q_w: grid of the queries of a task, half of the stage's; K: keys of all tasks, the same number in every stage.
"""

from collections.abc import Iterable

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from .layers import enlarged

HEADS = 2


class MessageAttention(nn.Module):
    """Every task's queries see every task's keys; all layers but the query convolutions are the same for all tasks.

    Args:
        tasks: Names of the tasks.
        width: C_i.
        pooling: Side of the windows whose means give keys and values, 2 · 2^i.
        messages: Whether there are scores of a coarser stage; they stand behind the own ones, before the 1×1
            convolution, as in the published checkpoints (the InvPT repository).
        norm_cfg: Of the query convolutions.
    """

    def __init__(self, tasks: Iterable[str], width: int, pooling: int, messages: bool, norm_cfg: dict) -> None:
        super().__init__()
        self.query_convs = nn.ModuleDict(
            {
                task: nn.Sequential(
                    nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width, bias=False),
                    build_norm_layer(norm_cfg, width)[1],
                )
                for task in tasks
            }
        )
        self.pool = nn.AvgPool2d(pooling, ceil_mode=True)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.scale = width**-0.5  # of the whole width, not of a head's
        self.fuse = nn.Conv2d(2 * HEADS, HEADS, 1) if messages else None

    def forward(self, x: Tensor, messages: Tensor | None) -> tuple[Tensor, Tensor]:
        """Messages of the tasks to each other, and the scores for the next stage.

        Args:
            x: Normalised maps (B, T, h, w, C).
            messages: Scores of the stage before, as returned; None in the first.

        Returns:
            (B, T, h, w, C), and the scores before the softmax (B, heads, T, q_h, q_w, K).
        """
        B, T, h, w, _ = x.shape
        maps = x.permute(0, 1, 4, 2, 3)  # (B, T, C, h, w)
        queries = torch.stack([conv(maps[:, t]) for t, conv in enumerate(self.query_convs.values())], dim=1)
        grid = (int(queries.shape[-2]), int(queries.shape[-1]))
        context = self.pool(maps.flatten(0, 1)).unflatten(0, (B, T)).movedim(2, -1).flatten(1, 3)  # (B, K, C)
        q = _by_heads(self.query(queries.movedim(2, -1)).flatten(1, 3))
        k, v = _by_heads(self.key(context)), _by_heads(self.value(context))
        scores = q @ k.mT * self.scale  # (B, heads, T · q_h · q_w, K)
        if self.fuse is not None:
            coarser = _enlarged_queries(messages, grid).flatten(2, 4)
            scores = self.fuse(torch.cat([scores, coarser], dim=1))
        read = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)  # (B, T · q_h · q_w, C)
        read = self.output(read).unflatten(1, (T, *grid)).flatten(0, 1).movedim(-1, 1)
        read = enlarged(read, 2, (h, w)).unflatten(0, (B, T)).movedim(2, -1)
        return read, scores.unflatten(2, (T, *grid))


def _by_heads(tokens: Tensor) -> Tensor:
    """(B, L, C) → (B, heads, L, C / heads)."""
    return tokens.unflatten(2, (HEADS, -1)).transpose(1, 2)


def _enlarged_queries(scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, heads, T, q_h / 2, q_w / 2, K) → (B, heads, T, q_h, q_w, K): bilinear over the queries of each task."""
    maps = scores.flatten(0, 2).movedim(-1, 1)  # (B · heads · T, K, q_h / 2, q_w / 2)
    return enlarged(maps, 2, grid).movedim(1, -1).unflatten(0, scores.shape[:3])
