"""Layers that the parts of InvPT's decoder are made of."""

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

COARSEST = 32
"""Stride of the coarsest maps: how far, at most, the last cells of a map reach beyond the image."""


def conv_norm_relu(before: int, after: int, norm_cfg: dict, dilation: int = 1, bias: bool = False) -> nn.Sequential:
    """3 × 3 convolution that keeps the size, norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, bias=bias),
        build_norm_layer(norm_cfg, after)[1],
        nn.ReLU(inplace=True),
    )


def enlarged(x: Tensor, factor: int, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) `factor` times as large, bilinear, and cropped to `size`.

    Where sides are halved without rest nothing is cropped. Else the last row or column of a coarse map reaches beyond
    the finer one; squeezing it in would shift all others.
    """
    x = F.interpolate(x, scale_factor=factor, mode='bilinear', align_corners=False)
    return x[..., : size[0], : size[1]]


def at_size(raw: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Predictions at `stride` brought to `size`, that of the images; to any other size they are stretched."""
    beyond = [stride * cells - side for cells, side in zip(raw.shape[-2:], size, strict=True)]
    if all(0 <= rest < COARSEST for rest in beyond):
        return enlarged(raw, stride, size)
    return F.interpolate(raw, size, mode='bilinear', align_corners=False)
