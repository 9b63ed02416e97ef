"""UShapedHead: from the coarsest level up to the finest, each level joined on the way. B samples; C_l channels."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class UShapedHead(BaseDecodeHead):
    """The decoder of a U-Net (Ronneberger et al. 2015) on any pyramid; its output has the size of the finest level.

    Each level is brought to its width by a 1×1 convolution with norm and activation, for levels of different models
    differ in scale; then, from coarse to fine, it is joined by the upsampled level below, and two 3×3 convolutions with
    norm and activation follow. `DenseTaskHead` makes it a head for depth or normals.

    Args:
        in_channels: C_l of the levels, fine to coarse, of any number and any strides.
        widths: Channels of each level in the decoder, fine to coarse; or one number for all.
        in_index: Which maps of the backbone they are; None: the first ones.
        norm_cfg: Norm of all layers; None: group norm with 8 groups, as batches of dense prediction are small.
        **head: Further arguments of mmseg's BaseDecodeHead; its `channels` is the first width.

    Raises:
        ValueError: Another number of widths than of levels, or of maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        widths: int | Sequence[int],
        in_index: Sequence[int] | None = None,
        norm_cfg: dict | None = None,
        **head: Any,
    ) -> None:
        count = len(in_channels)
        widths = [widths] * count if isinstance(widths, int) else list(widths)
        index = list(range(count)) if in_index is None else list(in_index)
        if not len(widths) == len(index) == count:
            raise ValueError(f'found {len(widths)} widths and {len(index)} maps (in_index) for {count} in_channels')
        super().__init__(
            list(in_channels),
            widths[0],
            in_index=index,
            input_transform='multiple_select',
            norm_cfg=dict(type='GN', num_groups=8) if norm_cfg is None else norm_cfg,
            **head,
        )
        self.laterals = nn.ModuleList(
            self._layer(channels, width, 1) for channels, width in zip(in_channels, widths, strict=True)
        )
        below = [*widths[1:], 0]
        self.levels = nn.ModuleList(
            nn.Sequential(self._layer(width + more, width, 3), self._layer(width, width, 3))
            for width, more in zip(widths, below, strict=True)
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Levels (B, C_l, h_l, w_l), fine to coarse → output (B, K, h_0, w_0)."""
        skips = [layer(x) for layer, x in zip(self.laterals, self._transform_inputs(inputs), strict=True)]
        x = self.levels[-1](skips[-1])
        for skip, layers in zip(skips[-2::-1], list(self.levels)[-2::-1], strict=True):
            x = resize(x, size=skip.shape[2:], mode='bilinear', align_corners=self.align_corners)
            x = layers(torch.cat([skip, x], 1))
        return self.cls_seg(x)

    def _layer(self, inputs: int, outputs: int, side: int) -> ConvModule:
        norm = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        return ConvModule(inputs, outputs, side, padding=side // 2, **norm)
