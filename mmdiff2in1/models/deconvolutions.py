"""Deconvolutions that double the sides, with a convolution behind them."""

from collections.abc import Sequence

from torch import Tensor, nn


class Deconvolutions(nn.Module):
    """(B, C_in, h, w) → (B, C_out, 2^n h, 2^n w) for n filters: of what MetaPrompts' depth model is made.

    Each layer is a deconvolution of stride 2, batch norm and ReLU; then follow a 3×3 convolution, batch norm and ReLU.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        filters: Channels of each deconvolution.
        kernel: Their side, an even number.
    """

    def __init__(self, in_channels: int, out_channels: int, filters: Sequence[int], kernel: int):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip([in_channels, *filters], filters, strict=False):
            deconvolution = nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding=kernel // 2 - 1, bias=False)
            layers += [deconvolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.deconv_layers = nn.Sequential(*layers)
        self.conv_layers = nn.Sequential(
            nn.Conv2d(filters[-1], out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, h, w) → (B, C_out, 2^n h, 2^n w)."""
        return self.conv_layers(self.deconv_layers(x))
