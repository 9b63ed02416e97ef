"""Features that a frozen beginning of a backbone produced for a batch; θ_C and θ_E both go on from it."""

from collections.abc import Mapping, Sequence
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

    def kept(self) -> list[dict[str, Tensor]]:
        """Of each image what a file is to keep, by name: its maps, for a stem its pixels, and the size (H, W).

        Raises:
            ValueError: The frozen part ended before the maps.
        """
        if self.pyramid is None:
            raise ValueError('the frozen part ends before the feature maps, so that there are none to keep')
        named = {f'level.{number}': level for number, level in enumerate(self.pyramid)}
        named |= {} if self.images is None else {'images': self.images}
        return [
            {name: value[index].cpu().contiguous() for name, value in named.items()} | {'size': torch.tensor(self.size)}
            for index in range(len(self))
        ]

    @classmethod
    def of_kept(cls, kept: Mapping[str, Sequence[Tensor]]) -> 'FrozenFeatures':
        """What :meth:`kept` gave for the images of a batch, name → one tensor of each; float32 again."""
        # Before they are stacked: bfloat16 autocast refuses to stack float16.
        batched = {name: torch.stack([t.float() for t in own]) for name, own in kept.items() if name != 'size'}
        levels = tuple(batched[f'level.{number}'] for number in range(sum(name != 'images' for name in batched)))
        height, width = kept['size'][0].tolist()
        return cls((height, width), pyramid=levels, images=batched.get('images'))

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
