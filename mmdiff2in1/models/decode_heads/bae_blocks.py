"""Layers of Bae et al.'s decoder. B samples; N points; the names of the norms are the published ones."""

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from torch import Tensor, nn

NORMS = ('GN', 'BN')
GROUPS = 8


class SkipFusion(nn.Sequential):
    """Upsampling to a skip connection's size, concatenation, two 3 × 3 convolutions with norm and leaky ReLU.

    Args:
        in_channels: Of the coarse map and the skip together.
        out_channels: A multiple of 8 with `GN`.
        norm: `GN`: group normalisation and weight standardisation; `BN`: batch normalisation.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            if norm == 'GN':
                layers += [ConvWS2d(channels, out_channels, 3, padding=1), nn.GroupNorm(GROUPS, out_channels)]
            else:
                layers += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels)]
            layers.append(nn.LeakyReLU())
        super().__init__(*layers)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(B, c, h, w) and (B, c', H, W) → (B, out_channels, H, W)."""
        coarse = F.interpolate(coarse, skip.shape[-2:], mode='bilinear', align_corners=True)
        return super().forward(torch.cat([coarse, skip], dim=1))


class PointMLP(nn.Sequential):
    """Three hidden layers on every point: features (B, c, N) and output (B, C, N) of the coarser scale → raw output.

    Args:
        features: c.
        hidden: Width of the hidden layers.
        channels: C.
    """

    def __init__(self, features: int, hidden: int, channels: int) -> None:
        widths = [features + channels, hidden, hidden, hidden]
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Conv1d(before, after, 1), nn.ReLU()]
        super().__init__(*layers, nn.Conv1d(hidden, channels, 1))

    def forward(self, features: Tensor, output: Tensor) -> Tensor:
        """(B, C, N)."""
        return super().forward(torch.cat([features, output], dim=1))
