"""What a frozen beginning of a backbone produced for a batch; θ_C and θ_E both go on from it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FrozenFeatures:
    """Exactly one of ``latents`` and ``pyramid`` is set; it says where the frozen part ended.

    Attributes:
        size: Height and width of the images in pixels.
        latents: VAE latents (B, c, h, w) as the U-Net is to see them.
        pyramid: Finished feature maps, fine to coarse.
    """

    size: tuple[int, int]
    latents: Tensor | None = None
    pyramid: tuple[Tensor, ...] | None = None

    def __getitem__(self, index: Tensor | slice) -> 'FrozenFeatures':
        """The samples that ``index`` selects (indices, a mask or a slice over B)."""
        if self.pyramid is None:
            return FrozenFeatures(self.size, latents=self.latents[index])
        return FrozenFeatures(self.size, pyramid=tuple(level[index] for level in self.pyramid))

    def __len__(self) -> int:
        return len(self.latents if self.pyramid is None else self.pyramid[0])

    @property
    def shape(self) -> torch.Size:
        """Shape of the images that it stands for, (B, 3, H, W); mmseg asks its inputs for it."""
        return torch.Size((len(self), 3, *self.size))
