"""Continuous to discrete: the pixels of a map partitioned among few representations (iDisc, §3.1).

B batch; N internal discrete representations (IDRs) of D channels; C channels of the maps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .cross_attention import CrossAttention, feed_forward
from .sine_position import sine_position


class AdaptiveFeaturePartitioning(nn.Module):
    """Learned priors become the IDRs of an image by a few rounds of competing attention, the same layers each time.

    Args:
        resolutions: Number of maps; each has priors and layers of its own.
        channels: C.
        idrs: N.
        idr_channels: D.
        iterations: Rounds.
        heads: Heads of the attention.
        expansion: Hidden width of the linear layers, in D.
    """

    def __init__(
        self,
        resolutions: int = 3,
        channels: int = 256,
        idrs: int = 32,
        idr_channels: int = 128,
        iterations: int = 2,
        heads: int = 1,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        self.iterations = iterations
        self.priors = nn.ParameterList(torch.randn(1, idrs, idr_channels) for _ in range(resolutions))
        self.attention = nn.ModuleList(
            CrossAttention(idr_channels, channels, heads, compete=True) for _ in range(resolutions)
        )
        self.mlp = nn.ModuleList(feed_forward(idr_channels, expansion) for _ in range(resolutions))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C, h, w) → their IDRs (B, N, D)."""
        found = []
        for x, priors, attention, mlp in zip(maps, self.priors, self.attention, self.mlp, strict=True):
            pixels = (x + sine_position(x.shape[-2:], x.shape[1], x.device)).flatten(2).transpose(1, 2)
            idrs = priors.expand(len(x), -1, -1)
            for _ in range(self.iterations):
                idrs = idrs + attention(idrs, pixels)
                idrs = idrs + mlp(idrs)
            found.append(idrs)
        return found
