"""Pixel decoder of iDisc: deformable self-attention over all scales, then a top-down path with lateral connections.

B batch; L levels of h × w pixels, always from coarse to fine; C channels inside; S = Σ h w.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from .deformable_attention import MultiScaleDeformableAttention, Sizes
from .sine_position import sine_position


class DeformableLayer(nn.Module):
    """Deformable self-attention and two linear layers, each added to what it reads; normalised before.

    Args:
        channels: C.
        levels: L.
        heads: Heads of the attention.
        points: Points per head and level.
        expansion: Hidden width of the two linear layers, in C.
    """

    def __init__(self, channels: int, levels: int, heads: int, points: int, expansion: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = MultiScaleDeformableAttention(channels, levels, heads, points)
        hidden = expansion * channels
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )
        for layer in (self.mlp[1], self.mlp[3]):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, sizes: Sizes) -> Tensor:
        """Tokens (B, S, C) with positions (S, C) at `reference` (S, 2) → tokens. The values are not normalised."""
        tokens = tokens + self.attention(self.norm(tokens) + position, reference, tokens, sizes)
        return tokens + self.mlp(tokens)


class DeformablePixelDecoder(nn.Module):
    """Pyramid of any widths and sizes → two pyramids of C channels at the same sizes.

    The transformer runs in fp32 also under autocast: offsets of half precision miss their pixels.

    Args:
        in_channels: Widths of the L maps.
        channels: C.
        layers: Number of transformer layers.
        heads: As in :class:`DeformableLayer`.
        points: As in :class:`DeformableLayer`.
        expansion: As in :class:`DeformableLayer`.
        norm_cfg: Normalisation of the convolutions.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        layers: int = 4,
        heads: int = 4,
        points: int = 4,
        expansion: int = 4,
        norm_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        levels = len(in_channels)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1), nn.GroupNorm(1, channels)) for width in in_channels
        )
        self.level_embedding = nn.Parameter(torch.randn(levels, channels))
        self.layers = nn.ModuleList(DeformableLayer(channels, levels, heads, points, expansion) for _ in range(layers))
        options = dict(norm_cfg=norm_cfg or dict(type='BN'), act_cfg=dict(type='GELU'))
        self.encoded = nn.ModuleList(ConvModule(channels, channels, 1, **options) for _ in in_channels)
        self.lateral = nn.ModuleList(ConvModule(width, channels, 1, **options) for width in in_channels)
        self.smooth = nn.ModuleList(ConvModule(channels, channels, 3, padding=1, **options) for _ in in_channels)
        for convolution in (*self.encoded, *self.lateral, *self.smooth):
            nn.init.kaiming_uniform_(convolution.conv.weight, a=1)
        for projection in self.project:
            nn.init.xavier_uniform_(projection[0].weight)
            nn.init.zeros_(projection[0].bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, ·, h, w) → top-down maps and the transformer's own, (B, C, h, w) each."""
        encoded = [convolve(x) for convolve, x in zip(self.encoded, self._attend(features), strict=True)]
        maps: list[Tensor] = []
        for lateral, smooth, x, own in zip(self.lateral, self.smooth, features, encoded, strict=True):
            total = lateral(x) + own
            if maps:
                total = total + F.interpolate(maps[-1], total.shape[-2:], mode='nearest')
            maps.append(smooth(total))
        return maps, encoded

    def _attend(self, features: Sequence[Tensor]) -> list[Tensor]:
        sizes = [(x.shape[-2], x.shape[-1]) for x in features]
        with _fp32(features[0]):
            maps = [project(x.float()) for project, x in zip(self.project, features, strict=True)]
            tokens = torch.cat([x.flatten(2) for x in maps], dim=2).transpose(1, 2)
            position = torch.cat(
                [
                    sine_position(size, tokens.shape[-1], tokens.device).flatten(1).T + level
                    for size, level in zip(sizes, self.level_embedding, strict=True)
                ]
            )
            reference = torch.cat([pixel_centres(size, tokens.device) for size in sizes])
            for layer in self.layers:
                tokens = layer(tokens, position, reference, sizes)
        parts = tokens.transpose(1, 2).split([h * w for h, w in sizes], dim=2)
        return [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


def pixel_centres(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """(h w, 2): x and y of the centres, row by row; 0 and 1 are the outer edges."""
    y, x = ((torch.arange(length, dtype=torch.float32, device=device) + 0.5) / length for length in size)
    return torch.stack(torch.broadcast_tensors(x, y[:, None]), dim=-1).flatten(0, 1)


def _fp32(x: Tensor) -> AbstractContextManager:
    """Autocast switched off; the meta device, on which shapes are counted, has none."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
