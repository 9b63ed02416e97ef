"""Channel scores: how well a prompt's map fits each channel of the features, in each of s × s windows.

B batch; T prompts; C channels; h × w positions, h and w multiples of s.
"""

import torch
from torch import Tensor

from .grid import Grid


def channel_scores(queries: Tensor, keys: Tensor, grid: Grid, windows: int) -> Tensor:
    """Sums over the windows of query times key, neither scaled nor in a softmax: (B, T, C, s, s).

    Args:
        queries: (B, T, h · w), a map of each prompt.
        keys: (B, h · w, C), the features.
        grid: (h, w).
        windows: s.
    """
    h, w = grid[0] // windows, grid[1] // windows  # of a window
    maps = queries.unflatten(2, (windows, h, windows, w))
    features = keys.unflatten(1, (windows, h, windows, w))
    return torch.einsum('btihjw,bihjwc->btcij', maps, features)


def over_windows(scores: Tensor, grid: Grid) -> Tensor:
    """Scores (B, C, s, s) at every position of their windows: (B, C, h, w)."""
    windows = scores.shape[-1]
    return scores.repeat_interleave(grid[0] // windows, 2).repeat_interleave(grid[1] // windows, 3)
