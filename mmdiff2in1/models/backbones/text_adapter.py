"""VPD's text adapter: lets class tokens move away from the text encoder's, starting from no change."""

import torch
from torch import Tensor, nn


class TextAdapter(nn.Module):
    """c + γ · MLP(c) for tokens (K, D), with γ (D,) starting at 1e-4 (VPD, Sec. 3.2)."""

    def __init__(self, width: int, initial_gamma: float = 1e-4):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.gamma = nn.Parameter(torch.full((width,), initial_gamma))

    def forward(self, tokens: Tensor) -> Tensor:
        """(K, D) → (K, D)."""
        return tokens + self.gamma * self.mlp(tokens)
