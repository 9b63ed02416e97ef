"""Attention of queries to a context, and the two linear layers after it: what iDisc's module is made of.

B batch; N queries of `channels`; S of the context; M heads.
"""

import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-6


class CrossAttention(nn.Module):
    """Multi-head cross-attention, to be added to the queries; queries and context are normalised first.

    Args:
        channels: Width of the queries, inside as well.
        context_channels: Width of the context.
        heads: M.
        compete: Softmax over the queries, which compete for each place of the context (slot attention, Locatello et
            al., 2020), instead of over the context.

    Raises:
        ValueError: `heads` does not divide `channels`.
    """

    def __init__(self, channels: int, context_channels: int, heads: int = 1, compete: bool = False) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f'{channels} channels cannot be divided among {heads} heads')
        self.heads, self.compete = heads, compete
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.context_norm = nn.LayerNorm(context_channels, eps=_EPS)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(context_channels, 2 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """(B, N, `channels`) from queries (B, N, `channels`) and context (B, S, `context_channels`)."""
        wide = (self.query(self.norm(queries)), *self.key_value(self.context_norm(context)).chunk(2, dim=-1))
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in wide)  # (B, M, N or S, ·)
        read = competing_attention(q, k, v) if self.compete else F.scaled_dot_product_attention(q, k, v)
        return self.output(read.transpose(1, 2).flatten(2))


def competing_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each place of the context shares itself out among the queries; each query reads the mean of its shares.

    a = softmax over queries of q kᵀ / √d, plus 1e-6; output (a / Σ over places) v, for (…, N, d) and (…, S, d).
    """
    shares = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-2) + _EPS
    return shares / shares.sum(dim=-1, keepdim=True) @ v


def feed_forward(channels: int, expansion: int) -> nn.Sequential:
    """Normalisation and two linear layers, `expansion` times as wide between them."""
    hidden = expansion * channels
    return nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))
