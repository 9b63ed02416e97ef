"""PromptedBlock: a block of a ViT whose tokens are prompts and patches.

B batch; T prompts; N patches; L = T + N tokens, the prompts first; C width; A heads, d = C / A channels each.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiff2in1.models.backbones.vit_parts import EPS, FeedForward

from .channel_windows import channel_scores
from .grid import Grid, GridLink


@dataclass(frozen=True)
class PromptScores:
    """How much the prompts of a block have to do with what is there; raw products, not in a softmax.

    Attributes:
        prompts: (B, A, T, T), with the prompts.
        patches: (B, A, T, h, w), with the patches.
        channels: (B, T, C, s, s), with the channels of the patches in s × s windows.
    """

    prompts: Tensor
    patches: Tensor
    channels: Tensor


class PromptedAttention(nn.Module):
    """Ordinary attention of all tokens, and the raw scores of the prompts' rows alone; no others are held."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, prompts: int, scored: bool) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, L, C) → (B, L, C), and q · k (B, A, T, L) of the first T tokens where they are asked for."""
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, A, L, d)
        read = F.scaled_dot_product_attention(q, k, v)
        scores = q[:, :, :prompts] @ k.mT if scored else None
        return self.proj(read.transpose(1, 2).flatten(2)), scores


class PromptedBlock(nn.Module):
    """x, p ← attention over [p; x], then the MLP; p also gets W2 · W1 · p, with p normed.

    Args:
        width: C.
        heads: A.
        grid: (h, w) of the patches that the position-bound weights belong to.
        hidden: Width within the MLP.
        drop_path: Chance that a branch is left out for an image, drawn for prompts and patches apart.
        last: No W2: nothing reads the prompts behind the last block.
    """

    def __init__(
        self, width: int, heads: int, grid: Grid, hidden: int, drop_path: float = 0.0, last: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = PromptedAttention(width, heads)
        self.link = GridLink(width, grid, returns=not last)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = FeedForward(width, hidden)
        self.drop_path = drop_path

    def forward(
        self, tokens: Tensor, prompts: int, grid: Grid, windows: int | None = None
    ) -> tuple[Tensor, PromptScores | None]:
        """Tokens (B, L, C), T prompts first → the same, and with `windows` = s their scores.

        Args:
            tokens: Prompts and patches.
            prompts: T.
            grid: (h, w) of the patches, h · w = L - T.
            windows: s of the channel scores; None: no scores are asked for.
        """
        normed = self.norm1(tokens)
        branch, found = self.attn(normed, prompts, scored=windows is not None)
        if self.link.from_grid is not None or windows is not None:
            maps = self.link.spread(normed[:, :prompts], grid)
        if self.link.from_grid is not None:
            own = self.link.gathered(maps, grid)
            branch = torch.cat([branch[:, :prompts] + own, branch[:, prompts:]], dim=1)
        tokens = tokens + self._dropped(branch, prompts)
        tokens = tokens + self._dropped(self.mlp(self.norm2(tokens)), prompts)
        if windows is None or found is None:
            return tokens, None
        channels = channel_scores(maps, normed[:, prompts:], grid, windows) * self.link.share(grid)
        return tokens, PromptScores(found[..., :prompts], found[..., prompts:].unflatten(3, grid), channels)

    def _dropped(self, branch: Tensor, prompts: int) -> Tensor:
        """Stochastic depth (Huang et al., 2016), drawn for the prompts and the patches of each image."""
        if not self.training or self.drop_path == 0:
            return branch
        kept = 1 - self.drop_path
        factors = branch.new_empty(len(branch), 2, 1).bernoulli_(kept) / kept
        of_prompts, of_patches = branch.split([prompts, branch.shape[1] - prompts], dim=1)
        return torch.cat([of_prompts * factors[:, :1], of_patches * factors[:, 1:]], dim=1)
