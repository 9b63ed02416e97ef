"""ReleasedAdapter: the pyramid adapter of the code released with Diff-2-in-1, layer by layer.

B samples; four inputs at strides 8, 16, 32, 64, five outputs at strides 2, 4, 8, 16, 32, both fine to coarse.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from .spectral_convolution import SpectralConv2d


@MODELS.register_module()
class ReleasedAdapter(BaseModule):
    """A U-Net's features as the pyramid of EfficientNet-B5, as released; what its checkpoints hold fits in here.

    Every input goes through a 1 × 1 convolution without bias; all but the finest are enlarged to the size of the next
    finer input, so that they end at strides 8, 8, 16 and 32. From the coarsest downwards a residual block with spectral
    normalisation mixes each with the coarser result, which is concatenated, not added. The coarsest three results are
    outputs; two transposed convolutions behind the finest give the other two. The output at stride 4 is the only one
    that has gone through a ReLU: the released code applies it in place.

    Released for images of 512 × 512 only; here of any size, the same there. What nothing reads in the released module
    (a transformer decoder, an MLP, two projections; 34 million parameters) is not rebuilt.

    Args:
        in_channels: Widths of the inputs; the default is Stable Diffusion 1.x with all of its blocks,
            `feature=dict(preset='released')`.
        out_channels: Widths of the outputs.

    Raises:
        ValueError: Other than four inputs and five outputs.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (2560, 4160, 7040, 7680),
        out_channels: Sequence[int] = (24, 40, 64, 176, 2048),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(in_channels) != 4 or len(out_channels) != 5:
            raise ValueError(
                f'found in_channels={tuple(in_channels)}, out_channels={tuple(out_channels)}, expected four widths '
                'and five; DiffusionPyramidAdapter takes any pyramid'
            )
        finest, finer, fine, coarse, coarsest = out_channels
        widths = (fine, fine, coarse, coarsest)
        self.laterals = nn.ModuleList(
            nn.Conv2d(before, after, 1, bias=False) for before, after in zip(in_channels, widths, strict=True)
        )
        self.mixes = nn.ModuleList(
            SpectralResidualBlock(own + coarser, own) for own, coarser in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in (fine, finer, finest))
        self.enlarge = nn.ModuleList(
            [nn.ConvTranspose2d(fine, finer, 2, stride=2), nn.ConvTranspose2d(finer + fine, finest, 2, stride=2)]
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One map (B, in_channels[i], h_i, w_i) per input → one (B, out_channels[j], …) per output.

        The third and later outputs have the sizes of the first to third input, the first two four times and twice that
        of the first.
        """
        sizes = [tuple(x.shape[-2:]) for x in inputs]
        # A 1 × 1 convolution and an interpolation may change places; the released code enlarges first.
        levels = [lateral(x) for lateral, x in zip(self.laterals, inputs, strict=True)]
        levels[1:] = [_resized(x, size) for x, size in zip(levels[1:], sizes[:-1], strict=True)]
        results = [levels.pop()]
        for level in (2, 1, 0):
            coarser = _resized(results[0], tuple(levels[level].shape[-2:]))
            results.insert(0, self.mixes[level](torch.cat([coarser, levels[level]], dim=1)))
        mixed, *outputs = results
        mixed = F.relu(self.norms[0](mixed))
        finer = F.relu(self.norms[1](self.enlarge[0](mixed)))
        both = torch.cat([finer, _resized(mixed, tuple(finer.shape[-2:]))], dim=1)
        return self.norms[2](self.enlarge[1](both)), finer, *outputs


class SpectralResidualBlock(nn.Module):
    """Twice batch normalisation without parameters, ReLU and a 3 × 3 convolution; a 1 × 1 convolution beside them.

    The shortcut starts behind the first ReLU, which works in place in the released code.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        channels = (in_channels, out_channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(each, eps=1e-4, affine=False) for each in channels)
        self.convs = nn.ModuleList(SpectralConv2d(each, out_channels, 3, padding=1) for each in channels)
        self.shortcut = SpectralConv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) → (B, out_channels, h, w)."""
        x = F.relu(self.norms[0](x))
        inner = F.relu(self.norms[1](self.convs[0](x)))
        return self.convs[1](inner) + self.shortcut(x)


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size, mode='bilinear', align_corners=False)
