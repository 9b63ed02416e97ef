"""Which levels a diffusion backbone gives, and how what was seen becomes them.

B samples; h, w: latent; level l of the denoiser: (h / 2^l, w / 2^l); K classes; n timesteps. A level of stride s is
(B, C_s, ⌈H / s⌉, ⌈W / s⌉) for images of H × W.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mmdiff2in1.generators import Features, Perceiver

from .detail_path import DetailPath
from .feature_config import FeatureConfig


class Pyramid:
    """Levels by stride: the VAE encoder's, then the denoiser's; a stem's stand behind what has the same stride.

    Args:
        perceiver: The model.
        feature: What of it is read.
        taps: Names of the taps, in the order in which they stand in a level.
        classes: K.
        detail: The finer levels, if there are any.

    Attributes:
        strides: Of all levels, fine to coarse.
        channels: Of all levels.
    """

    def __init__(
        self,
        perceiver: Perceiver,
        feature: FeatureConfig,
        taps: Sequence[str],
        classes: int,
        detail: DetailPath | None,
    ):
        known, self._downscale = perceiver.taps, perceiver.downscale
        self._multiple = perceiver.multiple if feature.padding == 'kept' else 1
        levels = sorted({*(known[name].level for name in taps), *feature.map_levels})
        self._taps = {level: [name for name in taps if known[name].level == level] for level in levels}
        widths = Counter({} if detail is None else detail.encoder_channels)
        for level, names in self._taps.items():
            seen = len(feature.timesteps) * sum(known[name].channels for name in names)
            widths[self._stride(level)] = seen + (classes if level in feature.map_levels else 0)
        self._frozen_strides = sorted(widths)
        if detail is not None and detail.stem is not None:
            widths.update(detail.stem.channels)
        self.strides = sorted(widths)
        self.channels = [widths[stride] for stride in self.strides]

    def of_denoiser(self, features: Features, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Groups taps and attention maps by level; `size` is that of the images."""
        pyramid = []
        for level, names in self._taps.items():
            maps = [features.taps[name].float() for name in names]
            if level in features.maps:
                maps.append(features.maps[level])
            pyramid.append(self._cropped(torch.cat(maps, 1), size, self._stride(level)))
        return tuple(pyramid)

    def of_encoder(self, levels: Iterable[tuple[int, Tensor]], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """(stride, level) of the encoder → levels."""
        return tuple(self._cropped(level.float(), size, stride) for stride, level in levels)

    def with_stem(
        self, frozen: Sequence[Tensor], stem: Iterable[tuple[int, Tensor]], size: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        """The levels of encoder and denoiser, and (stride, level) of a stem → all levels."""
        levels = dict(zip(self._frozen_strides, frozen, strict=True))
        for stride, maps in stem:
            maps = self._cropped(maps.float(), size, stride)
            levels[stride] = torch.cat([levels[stride], maps], 1) if stride in levels else maps
        return tuple(levels[stride] for stride in self.strides)

    def _stride(self, level: int) -> int:
        return self._downscale * 2**level

    def _cropped(self, maps: Tensor, size: tuple[int, int], stride: int) -> Tensor:
        """Without the padding, unless it is kept."""
        height, width = (math.ceil((side + -side % self._multiple) / stride) for side in size)
        # Contiguous: GroupNorm's backward crashes on channels_last inputs without gradient on CPUs (torch 2.13).
        return maps[..., :height, :width].contiguous()
