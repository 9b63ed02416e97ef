"""Features that a frozen beginning of a backbone produced for a batch; θ_C and θ_E both go on from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class FrozenFeatures:
    """Exactly one of ``latents`` and ``pyramid`` is set; it says where the frozen part ended.

    Attributes:
        size: Height and width of the images in pixels.
        latents: VAE latents (B, c, h, w) as the U-Net is to see them; (B, n, c, h, w) under noise of n timesteps.
        pyramid: Finished feature maps, fine to coarse.
        category: Class of each image (B,) int64, where the features depend on it.
        levels: Beside latents: the levels of the VAE's encoder that are to stand before the denoiser's.
        images: RGB in [-1, 1], (B, 3, H, W), padded as the VAE saw them, where a trained stem goes on from them.
    """

    size: tuple[int, int]
    latents: Tensor | None = None
    pyramid: tuple[Tensor, ...] | None = None
    category: Tensor | None = None
    levels: tuple[Tensor, ...] = ()
    images: Tensor | None = None

    def __getitem__(self, index: Tensor | slice) -> Self:
        """The samples that ``index`` selects (indices, a mask or a slice over B)."""
        chosen: dict[str, Any] = {
            name: value[index]
            for name in ('latents', 'category', 'images')
            if (value := getattr(self, name)) is not None
        }
        chosen |= {
            name: tuple(level[index] for level in value)
            for name in ('pyramid', 'levels')
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **chosen)

    def of_categories(self, categories: Sequence[int], classes: int) -> 'FrozenFeatures':
        """The same with the class of each image, one of 0 … `classes` - 1.

        Raises:
            ValueError: Another class, or another number of them than of images.
        """
        if len(categories) != len(self) or not all(0 <= category < classes for category in categories):
            raise ValueError(
                f'categories {list(categories)} of {len(self)} images, expected as many, each in 0 … {classes - 1}: do '
                "the backbone's classes, or class_embeddings, fit the dataset?"
            )
        return replace(self, category=torch.tensor(categories, dtype=torch.long, device=self.device))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the features are."""
        return (self.latents if self.pyramid is None else self.pyramid[0]).device

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the images that it stands for, (B, 3, H, W); mmseg asks its inputs for it."""
        return (self.latents if self.pyramid is None else self.pyramid[0]).shape[0], 3, *self.size
