"""DeconvolutionHead: one level, doubled again and again; MetaPrompts' depth decoder. B samples, C channels."""

from collections.abc import Sequence
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..deconvolutions import Deconvolutions


@MODELS.register_module()
class DeconvolutionHead(BaseDecodeHead):
    """Deconvolutions (:class:`.Deconvolutions`), a 3×3 convolution with ReLU, and one that predicts.

    Three of them bring features at stride 8 to the pixels of the image. `DenseTaskHead` makes it a head for depth.
    Weights start with a deviation of 0.001, as MetaPrompts' do: depth starts at half of the largest.

    Args:
        in_channels: Of the level.
        channels: Between the deconvolutions and the last convolution.
        filters: Channels of each deconvolution.
        kernel: Their side, an even number.
        **head: Further arguments of mmseg's BaseDecodeHead.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 192,
        filters: Sequence[int] = (32, 32, 32),
        kernel: int = 2,
        **head: Any,
    ) -> None:
        init_cfg = dict(type='Normal', std=0.001, layer=['Conv2d', 'ConvTranspose2d'])
        super().__init__(in_channels, channels, **{'init_cfg': init_cfg, 'in_index': 0, 'dropout_ratio': 0.0, **head})
        self.decoder = Deconvolutions(in_channels, channels, filters, kernel)
        self.smooth = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.conv_seg = nn.Conv2d(channels, self.out_channels, 3, padding=1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Levels, of which `in_index` (B, C_in, h, w) is read → raw output (B, C, 2^n h, 2^n w) for n filters."""
        return self.cls_seg(self.smooth(self.decoder(self._transform_inputs(inputs))))
