"""Levels that are finer than the latent: the VAE encoder's own, and those of a light trainable stem on the image.

B, 3, H, W: RGB in [-1, 1]; a level of stride s is (B, C_s, ⌈H / s⌉, ⌈W / s⌉).
"""

import math
from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdiff2in1.generators import Perceiver

FIELDS = ('encoder', 'stem')


class DetailPath(nn.Module):
    """Detail that a latent leaves out of an image, for heads that want full resolution (not in the paper, nor in VPD).

    Args:
        perceiver: The model, for its encoder's levels.
        encoder: The features before each downsampling of the VAE's encoder: True for all of them, or their strides,
            some of 1, 2, … up to half of the latent's. Frozen, and free of cost: every image is encoded anyway. Their
            channels are those of the VAE (Stable Diffusion: 128, 256 and 512 at strides 1, 2 and 4).
        stem: Channels of a trained :class:`ImageStem`, one number for strides 1 and 2, or one for each of 1, 2, 4, …

    Attributes:
        encoder: Strides of the encoder's levels that are wanted, fine to coarse.
        encoder_channels: Stride → channels, of those.
        stem: The stem, or None.

    Raises:
        ValueError: Neither is asked for, an unknown field, a stride that the encoder does not have, or no channels.
    """

    def __init__(
        self,
        perceiver: Perceiver,
        encoder: bool | Sequence[int] = False,
        stem: int | Sequence[int] = (),
        **unknown: Any,
    ):
        super().__init__()
        if unknown:
            raise ValueError(f'unknown detail fields {sorted(unknown)}; known: {", ".join(FIELDS)}')
        known = {2**i: channels for i, channels in enumerate(perceiver.encoder_channels)}
        wanted = (list(known) if encoder else []) if isinstance(encoder, bool) else sorted(encoder)
        if [stride for stride in wanted if stride not in known] or len(set(wanted)) < len(wanted):
            raise ValueError(
                f'detail.encoder={encoder}: the encoder of this model has levels of strides {list(known)}, each once; '
                'expected True, or some of them'
            )
        widths = [stem] * 2 if isinstance(stem, int) else list(stem)
        if [width for width in widths if width < 1]:
            raise ValueError(f'detail.stem={stem}: expected a number of channels, or one for each of strides 1, 2, …')
        if not (wanted or widths):
            raise ValueError('detail asks for no level; set encoder=True, stem=16 or both, or leave detail out')
        self.encoder = tuple(wanted)
        self.encoder_channels = {stride: known[stride] for stride in wanted}
        self.stem = ImageStem(widths) if widths else None

    def kept(self, levels: Sequence[Tensor]) -> list[tuple[int, Tensor]]:
        """(stride, level) of the encoder's levels that are wanted, of all that it has."""
        return [(stride, levels[stride.bit_length() - 1]) for stride in self.encoder]


class ImageStem(nn.Module):
    """Two 3×3 convolutions with norm and ReLU at each stride 1, 2, 4, …, each level from the one before.

    Group norm: batches of dense prediction are small.

    Args:
        widths: Channels at strides 1, 2, 4, …

    Attributes:
        channels: Stride → channels.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.channels = {2**i: width for i, width in enumerate(widths)}
        self.levels, before = nn.ModuleList(), 3
        for i, width in enumerate(widths):
            norm = dict(type='GN', num_groups=math.gcd(8, width))
            self.levels.append(
                nn.Sequential(
                    ConvModule(before, width, 3, stride=2 if i else 1, padding=1, norm_cfg=norm),
                    ConvModule(width, width, 3, padding=1, norm_cfg=norm),
                )
            )
            before = width

    def forward(self, images: Tensor) -> list[tuple[int, Tensor]]:
        """Images (B, 3, H, W) → (stride, level), fine to coarse."""
        x, found = images, []
        for stride, level in zip(self.channels, self.levels, strict=True):
            x = level(x)
            found.append((stride, x))
        return found
