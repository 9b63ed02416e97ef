"""Common parts of plain vision transformers: patches, their positions, and the layers of a block.

B, 3, H, W: images; h, w: patches, H and W divided by the side of a patch, rounded up; C: width; L: tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..recomputing import recomputed

EPS = 1e-6
"""Of the layer norms."""


class PatchEmbedding(nn.Module):
    """Images (B, 3, H, W) → patches (B, C, h, w); sides that are no multiple are padded with zeros, below and right."""

    def __init__(self, width: int, patch: int = 16) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        bottom, right = (-side % self.patch for side in images.shape[-2:])
        return self.proj(F.pad(images, (0, right, 0, bottom)) if bottom or right else images)


class FeedForward(nn.Module):
    """Linear, GELU, linear; what GELU gives is large and cheap, and computed again in the backward pass.

    Args:
        width: C.
        hidden: Width between the layers; None: four times C.
    """

    def __init__(self, width: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = 4 * width if hidden is None else hidden
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) → the same."""
        return recomputed(self._second, self.fc1(x))

    def _second(self, hidden: Tensor) -> Tensor:
        return self.fc2(F.gelu(hidden))


def drop_rates(rate: float, depth: int) -> list[float]:
    """Stochastic depth (Huang et al., 2016) of each of the blocks, from 0 rising linearly to `rate`."""
    return [rate * i / max(1, depth - 1) for i in range(depth)]


def resized_positions(positions: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A learned position (1, 1 + h·w, C) for another grid, bicubic; the class token's, which is first, stays.

    Args:
        positions: Of a grid (h, w), row by row.
        grid: (h, w).
        size: (h, w) of the result.
    """
    if tuple(grid) == tuple(size):
        return positions
    of_class, of_patches = positions[:, :1], positions[:, 1:]
    maps = of_patches.mT.unflatten(2, grid)
    maps = F.interpolate(maps, size, mode='bicubic', align_corners=False)
    return torch.cat([of_class, maps.flatten(2).mT], dim=1)


def init_linear(module: nn.Module) -> None:
    """For `nn.Module.apply`: weights of linear layers truncated normal with σ = 0.02, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
