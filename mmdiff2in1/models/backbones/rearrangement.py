"""Features by what they have in common with prompts: as many channels as there are prompts.

B samples; N prompts of width D; levels (B, C_l, h_l, w_l), fine to coarse, each of half the sides of the one before,
rounded up.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..deconvolutions import Deconvolutions

GROUPS = 16
"""Of all group norms."""
FILTERS = 32
"""Channels of each deconvolution."""


def dot_products(features: Tensor, prompts: Tensor) -> Tensor:
    """(B, D, h, w), (N, D) → (B, N, h, w)."""
    return torch.einsum('bdhw,nd->bnhw', features, prompts)


class EachLevel(nn.Module):
    """Each level apart, doubled: the pyramid that MetaPrompts segments.

    A level is doubled bilinearly, brought to D channels by a 3×3 convolution with group norm and ReLU, and compared.

    Args:
        channels: C_l.
        width: D.

    Attributes:
        scales: Of the results' sides, against those of the finest level.
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        self.layers = nn.ModuleList(_projection(each, width) for each in channels)
        self.scales = [2.0 * 0.5**level for level in range(len(channels))]

    def forward(self, levels: Sequence[Tensor], prompts: Tensor) -> tuple[Tensor, ...]:
        """Levels, (N, D) → (B, N, 2 h_l, 2 w_l) for each of them."""
        doubled = [F.interpolate(level, scale_factor=2, mode='bilinear', align_corners=False) for level in levels]
        return tuple(dot_products(layer(x), prompts) for layer, x in zip(self.layers, doubled, strict=True))


class Joined(nn.Module):
    """All levels in one of the finest's sides: what MetaPrompts estimates depth from.

    The finest goes through a 3×3 convolution with group norm and ReLU, the others through as many deconvolutions as
    they need; one more convolution brings all to D channels, which are compared.

    Args:
        channels: C_l.
        width: D.

    Attributes:
        scales: Of the result's sides, against those of the finest level.
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        finest, *others = channels
        self.layers = nn.ModuleList(
            [
                _projection(finest, finest),
                *(Deconvolutions(each, each, [FILTERS] * level, 4) for level, each in enumerate(others, 1)),
            ]
        )
        self.join = _projection(sum(channels), width)
        self.scales = [1.0]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, levels: Sequence[Tensor], prompts: Tensor) -> tuple[Tensor, ...]:
        """Levels, (N, D) → (B, N, h_0, w_0), alone."""
        rows, columns = levels[0].shape[-2:]
        brought = [layer(level)[..., :rows, :columns] for layer, level in zip(self.layers, levels, strict=True)]
        return (dot_products(self.join(torch.cat(brought, 1)), prompts),)


REARRANGEMENTS: dict[str, type[EachLevel] | type[Joined]] = dict(each=EachLevel, joined=Joined)


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(GROUPS, outputs), nn.ReLU())
