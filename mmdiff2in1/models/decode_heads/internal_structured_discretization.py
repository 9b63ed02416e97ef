"""Discrete to continuous: every pixel reads its attribute off the discrete representations (iDisc, §3.2).

B batch; N internal discrete representations (IDRs) of D channels; C channels of a map; K of the attribute.
"""

from torch import Tensor, nn

from .cross_attention import CrossAttention, feed_forward
from .sine_position import sine_position


class InternalStructuredDiscretization(nn.Module):
    """Decoder of one resolution: pixels attend to the IDRs.

    Args:
        channels: C.
        idr_channels: D.
        out_channels: K.
        layers: Rounds of attention, with layers of their own.
        heads: Heads of the attention.
        expansion: Hidden width of the linear layers, in C.
    """

    def __init__(
        self,
        channels: int = 256,
        idr_channels: int = 128,
        out_channels: int = 4,
        layers: int = 2,
        heads: int = 1,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        self.attention = nn.ModuleList(CrossAttention(channels, idr_channels, heads) for _ in range(layers))
        self.mlp = nn.ModuleList(feed_forward(channels, expansion) for _ in range(layers))
        self.output = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, channels),
            nn.LayerNorm(channels),
            nn.Linear(channels, out_channels),
        )

    def forward(self, x: Tensor, idrs: Tensor) -> Tensor:
        """Map (B, C, h, w) and IDRs (B, N, D) → raw attribute (B, K, h, w)."""
        pixels = (x + sine_position(x.shape[-2:], x.shape[1], x.device)).flatten(2).transpose(1, 2)
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            pixels = pixels + attention(pixels, idrs)
            pixels = pixels + mlp(pixels)
        return self.output(pixels).transpose(1, 2).unflatten(2, x.shape[-2:])
