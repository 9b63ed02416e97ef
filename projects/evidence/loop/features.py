"""What no arm changes is made once per image: all of the features under a frozen U-Net, else the latents.

B samples; H, W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from mmengine.device import get_device
from mmseg.registry import MODELS
from torch import Tensor

from mmdiff2in1.models.backbones import DiffusionBackbone
from mmdiff2in1.models.backbones.frozen_features import FrozenFeatures


def make_backbone(config: dict) -> DiffusionBackbone:
    """The backbone of an mmseg config, on the GPU if there is one."""
    backbone = MODELS.build(config).to(get_device())
    if backbone.text_adapter is not None:
        raise ValueError('a text adapter is none of the arms compared here: text_adapter must be False')
    return backbone


@dataclass(frozen=True)
class Viewed(FrozenFeatures):
    """Features of a batch, and of another view of the same images, for a teacher that wants one."""

    view: FrozenFeatures | None = None

    def __getitem__(self, index: Tensor | slice) -> 'Viewed':
        return replace(super().__getitem__(index), view=self.view[index])


@dataclass(frozen=True)
class Shown:
    """The features of several batches, made in one go.

    Attributes:
        frozen: Of all images.
        places: Name of a batch → its places among them.
    """

    frozen: FrozenFeatures
    places: dict[str, Tensor]

    @classmethod
    def of(cls, see: Callable[[Tensor], FrozenFeatures], batches: dict[str, Tensor]) -> 'Shown':
        """What ``see`` gives for all batches at once: name → images (B, 3, H, W) in [-1, 1]."""
        images = torch.cat(list(batches.values()))
        places = torch.arange(len(images)).split([len(each) for each in batches.values()])
        return cls(see(images), dict(zip(batches, places, strict=True)))

    def batch(self, names: list[str], views: list[str] | None = None) -> FrozenFeatures:
        """These batches one behind the other; with ``views`` what a teacher sees of each instead."""
        seen = self.frozen[torch.cat([self.places[name] for name in names])]
        return seen if views is None else Viewed(**vars(seen), view=self.batch(views))
