"""DiffusionPyramidAdapter: a U-Net's features as the pyramid that a convolutional encoder would give.

B samples; the i-th input has in_channels[i] channels at stride in_strides[i], the j-th output out_channels[j] at
out_strides[j], both fine to coarse.
"""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class DiffusionPyramidAdapter(BaseModule):
    """Reads any pyramid; gives maps at `out_strides`, e.g. those of EfficientNet-B5 for `BaeNormalHead`.

    Every input goes through a 1 × 1 convolution and is resized to the output that it joins. From the coarsest of these
    downwards, an output is the sum of its inputs and of the next coarser output, through a residual block. Outputs
    finer than all inputs come from transposed convolutions, one factor of two each; outputs coarser than all inputs
    from convolutions of stride 2.

    The code released with Diff-2-in-1 has the same plan (Stable Diffusion at 512 × 512: strides 8, 16, 32, 64 join 8,
    8, 16, 32). What is ours: the residual blocks (bottlenecks with group normalisation; there, batch and spectral
    normalisation), top-down sums through a 1 × 1 convolution (there, concatenation), any strides and widths, and no
    parameter that the outputs do not depend on. `ReleasedAdapter` is the released one.

    Args:
        in_channels: Widths of the inputs, fine to coarse.
        in_strides: Their strides.
        out_channels: Widths of the outputs.
        out_strides: Their strides, each twice the one before.
        joins: Per input, the output stride that it joins; None: the nearest one, so that it keeps its resolution where
            it can. (8, 8, 16, 32) as released.
        groups: Of the group normalisations; a width that is no multiple gets the largest common divisor.

    Raises:
        ValueError: Lists of different lengths, strides out of order, or `joins` that are no output strides.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int] = (8, 16, 32, 64),
        out_channels: Sequence[int] = (24, 40, 64, 176, 2048),
        out_strides: Sequence[int] = (2, 4, 8, 16, 32),
        joins: Sequence[int] | None = None,
        groups: int = 8,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(in_channels) != len(in_strides) or len(out_channels) != len(out_strides):
            raise ValueError(
                f'found {len(in_channels)} in_channels and {len(in_strides)} in_strides, {len(out_channels)} '
                f'out_channels and {len(out_strides)} out_strides; expected one stride for each width'
            )
        if list(in_strides) != sorted(set(in_strides)) or any(b != 2 * a for a, b in _pairs(out_strides)):
            raise ValueError(
                f'found in_strides={tuple(in_strides)}, out_strides={tuple(out_strides)}, expected rising ones, and '
                'each of the out_strides twice the one before'
            )
        if joins is None:
            joins = [min(out_strides, key=lambda out: (abs(math.log2(out / stride)), out)) for stride in in_strides]
        if len(joins) != len(in_strides) or not set(joins) <= set(out_strides):
            raise ValueError(f'found joins={tuple(joins)}, expected one of {tuple(out_strides)} for each input')
        self.in_strides, self.out_strides = tuple(in_strides), tuple(out_strides)
        self.joins = [self.out_strides.index(stride) for stride in joins]
        self.finest, self.coarsest = min(self.joins), max(self.joins)
        widths = list(out_channels)
        self.laterals = nn.ModuleList(
            nn.Conv2d(channels, widths[j], 1) for channels, j in zip(in_channels, self.joins, strict=True)
        )
        between = range(self.finest, self.coarsest)
        self.top_down = nn.ModuleDict({str(j): nn.Conv2d(widths[j + 1], widths[j], 1) for j in between})
        self.blocks = nn.ModuleDict(
            {str(j): ResidualBottleneck(widths[j], groups) for j in range(self.finest, self.coarsest + 1)}
        )
        self.finer = nn.ModuleDict(
            {str(j): _scaling(nn.ConvTranspose2d, 2, widths[j + 1], widths[j], groups) for j in range(self.finest)}
        )
        self.coarser = nn.ModuleDict(
            {
                str(j): _scaling(nn.Conv2d, 3, widths[j - 1], widths[j], groups, padding=1)
                for j in range(self.coarsest + 1, len(widths))
            }
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One map (B, in_channels[i], h_i, w_i) per input → one per output.

        An output has the size of the input with its stride, where there is one; else that of the finest input, scaled
        and rounded up.
        """
        outputs: dict[int, Tensor] = {}
        for j in range(self.coarsest, self.finest - 1, -1):
            size = self._size(inputs, j)
            parts = [
                _resized(lateral(x), stride / self.out_strides[j], size)
                for lateral, x, stride, join in zip(self.laterals, inputs, self.in_strides, self.joins, strict=True)
                if join == j
            ]
            if j + 1 in outputs:
                parts.append(_resized(self.top_down[str(j)](outputs[j + 1]), 2, size))
            outputs[j] = self.blocks[str(j)](sum(parts))
        for j in range(self.finest - 1, -1, -1):
            outputs[j] = self.finer[str(j)](outputs[j + 1])
        for j in range(self.coarsest + 1, len(self.out_strides)):
            outputs[j] = self.coarser[str(j)](outputs[j - 1])
        return tuple(outputs[j] for j in range(len(self.out_strides)))

    def _size(self, inputs: Sequence[Tensor], j: int) -> tuple[int, int]:
        stride = self.out_strides[j]
        if stride in self.in_strides:
            height, width = inputs[self.in_strides.index(stride)].shape[-2:]
            return height, width
        height, width = (math.ceil(side * self.in_strides[0] / stride) for side in inputs[0].shape[-2:])
        return height, width


class ResidualBottleneck(nn.Module):
    """x + f(x), f of 1 × 1, 3 × 3 and 1 × 1 convolutions at a quarter of the width, each behind a norm and a SiLU.

    The norm comes first, so that a sum of maps of very different scales is put in order before it is read.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        inner = max(1, channels // 4)
        layers: list[nn.Module] = []
        for before, after, kernel in ((channels, inner, 1), (inner, inner, 3), (inner, channels, 1)):
            layers += [_norm(before, groups), nn.SiLU(), nn.Conv2d(before, after, kernel, padding=kernel // 2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → the same."""
        return x + self.layers(x)


def _scaling(kind: type[nn.Module], kernel: int, before: int, after: int, groups: int, **settings) -> nn.Sequential:
    """A convolution of stride 2, up or down, norm and SiLU."""
    return nn.Sequential(kind(before, after, kernel, stride=2, **settings), _norm(after, groups), nn.SiLU())


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(groups, channels), channels)


def _resized(x: Tensor, factor: float, size: tuple[int, int]) -> Tensor:
    """Enlarged by the ratio of the strides and cropped, so that cells stay where they are in the image.

    The last row of a coarse map may reach beyond the image; squeezing it in would shift all others.
    """
    if factor > 1:
        x = F.interpolate(x, scale_factor=factor, mode='bilinear', align_corners=False)[..., : size[0], : size[1]]
    return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size, mode='bilinear', align_corners=False)


def _pairs(values: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(values[:-1], values[1:], strict=True))
