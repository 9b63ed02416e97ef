"""Learned prompts, shown to a denoiser instead of words and timesteps: tokens and time embeddings that are learned.

P passes, N tokens of width D, W numbers of a time embedding.
"""

import torch
from torch import Tensor, nn


class MetaPrompts(nn.Module):
    """N tokens and one time embedding for each of P passes (MetaPrompts, arXiv 2312.14733, Sec. 3).

    All start from the standard normal distribution.

    Args:
        count: N.
        width: D.
        time_width: W.
        passes: P.
        shared: All passes are shown the same tokens. False: each has tokens of its own, which go through two linear
            layers with GELU between them before they are shown, as the published code of depth has it.
    """

    def __init__(self, count: int, width: int, time_width: int, passes: int, shared: bool = True):
        super().__init__()
        own = 1 if shared else passes
        self.tokens = nn.ParameterList(nn.Parameter(torch.randn(count, width)) for _ in range(own))
        self.times = nn.ParameterList(nn.Parameter(torch.randn(1, time_width)) for _ in range(passes))
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(0 if shared else passes)
        )

    def __len__(self) -> int:
        return len(self.times)

    def forward(self, index: int) -> tuple[Tensor, Tensor]:
        """Prompts of pass `index`, counted from 0: tokens (N, D) and a time embedding (1, W)."""
        tokens = self.tokens[index] if self.adapters else self.tokens[0]
        return self.adapters[index](tokens) if self.adapters else tokens, self.times[index]
