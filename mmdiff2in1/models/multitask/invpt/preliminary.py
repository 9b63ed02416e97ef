"""The preliminary decoder of one task: features and a first prediction at 1/32, mixed for what follows."""

import torch
from torch import Tensor, nn

from .layers import conv_norm_relu


class Preliminary(nn.Module):
    """Two convolutions, a prediction of them, and a mixture of both.

    Args:
        before: Width of the backbone's last map.
        channels: Of the features.
        predicted: Channels of the task.
        width: C_0, of the mixture.
        norm_cfg: Of the convolutions.
    """

    def __init__(self, before: int, channels: int, predicted: int, width: int, norm_cfg: dict) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_norm_relu(before, before, norm_cfg), conv_norm_relu(before, channels, norm_cfg)
        )
        self.predict = nn.Conv2d(channels, predicted, 1)
        self.mix = nn.Conv2d(channels + predicted, width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, `before`, h_0, w_0) → the mixture (B, C_0, h_0, w_0), and the raw prediction (B, C, h_0, w_0)."""
        features = self.layers(x)
        predicted = self.predict(features)
        return self.mix(torch.cat([features, predicted], dim=1)), predicted
