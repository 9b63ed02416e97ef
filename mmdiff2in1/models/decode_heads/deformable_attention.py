"""Multi-scale deformable attention (Zhu et al., 2021, eq. 3) in plain PyTorch, without compiled operators.

B batch; Q queries; L levels of h × w pixels, coarse to fine; S = Σ h w; M heads of D channels, C = M D; P points.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Sizes = Sequence[tuple[int, int]]


def deformable_attention(values: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples; the map is zero outside.

    Args:
        values: (B, S, M, D), the levels one after another, each row by row.
        sizes: h and w of each level.
        locations: (B, Q, M, L, P, 2), x and y; 0 and 1 are the outer edges of the map, at any level.
        weights: (B, Q, M, L, P).

    Returns:
        (B, Q, C).
    """
    B, _, M, D = values.shape
    total = values.new_zeros(())
    for level, (part, (h, w)) in enumerate(zip(values.split([h * w for h, w in sizes], dim=1), sizes, strict=True)):
        maps = part.permute(0, 2, 3, 1).reshape(B * M, D, h, w)
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)  # (B M, Q, P, 2)
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]  # (B M, 1, Q, P)
        total = total + (F.grid_sample(maps, grid, align_corners=False) * weight).sum(-1)
    return total.reshape(B, M * D, -1).transpose(1, 2)


class MultiScaleDeformableAttention(nn.Module):
    """Each query looks, per head and level, at `points` places around its own, which it chooses itself.

    Gradients recompute the samples: kept, they would take L P numbers per channel and query.

    Args:
        channels: C.
        levels: L.
        heads: M.
        points: P.

    Raises:
        ValueError: `heads` does not divide `channels`.
    """

    def __init__(self, channels: int, levels: int, heads: int = 4, points: int = 4) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f'{channels} channels cannot be divided among {heads} heads')
        self.shape = (heads, levels, points)
        self.offsets = nn.Linear(channels, 2 * heads * levels * points)
        self.scores = nn.Linear(channels, heads * levels * points)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """At first head m looks in direction 2π m / M, its points 1, 2 … pixels away (largest of |x|, |y|)."""
        M, L, P = self.shape
        angles = 2 * math.pi * torch.arange(M, device=self.offsets.bias.device) / M
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, P + 1, device=angles.device)
        first = directions[:, None, None] * steps[:, None]  # (M, 1, P, 2)
        self.offsets.bias.copy_(first.expand(-1, L, -1, -1).reshape(-1))
        for layer in (self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
        for tensor in (self.offsets.weight, self.scores.weight, self.scores.bias, self.value.bias, self.output.bias):
            tensor.zero_()

    def forward(self, query: Tensor, reference: Tensor, values: Tensor, sizes: Sizes) -> Tensor:
        """(B, Q, C) from queries (B, Q, C) at `reference` (Q, 2) (x and y, as `locations`) and values (B, S, C)."""
        B, Q, _ = query.shape
        extent = query.new_tensor([(w, h) for h, w in sizes])
        offsets = self.offsets(query).view(B, Q, *self.shape, 2) / extent[:, None]
        weights = self.scores(query).view(B, Q, self.shape[0], -1).softmax(-1).view(B, Q, *self.shape)
        values = self.value(values).unflatten(-1, (self.shape[0], -1))
        arguments = (values, sizes, reference[:, None, None, None] + offsets, weights)
        return self.output(checkpoint(deformable_attention, *arguments, use_reentrant=False, preserve_rng_state=False))
