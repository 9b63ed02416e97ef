"""Values per position of a ViT's patches, on the grid it was trained on and on others.

B batch; T prompts; C width; N = h · w positions of the trained grid, N' of another one.
"""

import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]
"""(h, w): rows and columns of patches."""


def on_grid(rows: Tensor, trained: Grid, grid: Grid) -> Tensor:
    """Rows (N, K) of the positions of one grid → (N', K) of another, bicubic; the same rows where it is the same."""
    if grid == trained:
        return rows
    image = rows.mT.unflatten(1, trained)[None]  # (1, K, h, w)
    return F.interpolate(image, grid, mode='bicubic', align_corners=False)[0].flatten(1).mT


class GridLink(nn.Module):
    """Two linear layers between prompts and the positions of the patches: W1, C → N, and W2, N → C.

    They know one grid. On another one the rows of W1 are interpolated, and W2 sums over positions that count N / N'
    each, so that both say the same of a scene at any size. That is ours; published models have one size.

    Args:
        width: C.
        grid: (h, w) that the weights belong to.
        returns: Whether there is a W2; in the last block nothing reads what it gives.
    """

    def __init__(self, width: int, grid: Grid, returns: bool = True) -> None:
        super().__init__()
        self.grid = grid
        positions = grid[0] * grid[1]
        self.to_grid = nn.Linear(width, positions)
        self.from_grid = nn.Linear(positions, width) if returns else None

    def spread(self, prompts: Tensor, grid: Grid) -> Tensor:
        """W1: prompts (B, T, C) → a number for each position, (B, T, N')."""
        weight = on_grid(self.to_grid.weight, self.grid, grid)
        bias = on_grid(self.to_grid.bias[:, None], self.grid, grid)[:, 0]
        return F.linear(prompts, weight, bias)

    def gathered(self, values: Tensor, grid: Grid) -> Tensor:
        """W2: numbers of positions (B, T, N') → (B, T, C)."""
        assert self.from_grid is not None
        weight = on_grid(self.from_grid.weight.mT, self.grid, grid).mT * self.share(grid)
        return F.linear(values, weight, self.from_grid.bias)

    def share(self, grid: Grid) -> float:
        """N / N': how much of a position of the trained grid one of another grid is."""
        return self.grid[0] * self.grid[1] / (grid[0] * grid[1])
