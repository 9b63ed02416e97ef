"""Decode heads alone, as the configs have them, on random features of Stable Diffusion's U-Net.

B images of side S; level l: (B, C_l, S / 2^(3+l), S / 2^(3+l)).
"""

from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

import mmdiff2in1.components  # noqa: F401  registers the heads

from .cells import Cell

CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'models'
FILES = {'bae': 'bae_sd.py', 'idisc': 'idisc_sd.py', 'vpd-depth': 'vpd_depth_sd.py'}
DOWNSCALE = 8  # of the VAE


class Head(nn.Module):
    """Neck, where the config has one, and decode head."""

    def __init__(self, config: ConfigDict):
        super().__init__()
        self.neck = MODELS.build(config.neck) if 'neck' in config else nn.Identity()
        self.decode_head = MODELS.build(config.decode_head)
        self.in_channels = (config.neck if 'neck' in config else config.decode_head.head).in_channels

    def total_loss(self, features: tuple[Tensor, ...], samples: list[SegDataSample]) -> Tensor:
        """The sum of the losses of a training step."""
        losses = self.decode_head.loss(self.neck(features), samples, ConfigDict())
        return sum(value for name, value in losses.items() if 'loss' in name)

    def predict(self, features: tuple[Tensor, ...], samples: list[SegDataSample]) -> Tensor:
        """Maps at the size of the images."""
        metas = [sample.metainfo for sample in samples]
        return self.decode_head.predict(self.neck(features), metas, ConfigDict(mode='whole'))


def build_head(cell: Cell, device: str) -> Head:
    """In train mode, or in eval mode where the cell predicts."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    config = Config.fromfile(CONFIGS / FILES[cell.head]).model
    # What cuts off the padding of 480 pixels; the sizes here are multiples of what the U-Net needs.
    config.decode_head.head.pop('fmap_border', None)
    with torch.device(device):
        head = Head(config)
    return head.to(device).train(cell.case == cell.head)


def features_of(head: Head, cell: Cell, device: str) -> tuple[Tensor, ...]:
    """Random, in float32."""
    sides = [cell.size // (DOWNSCALE * 2**level) for level in range(len(head.in_channels))]
    with torch.device(device):
        return tuple(
            torch.randn(cell.batch, width, side, side) for width, side in zip(head.in_channels, sides, strict=True)
        )


def samples_of(head: Head, cell: Cell, device: str) -> list[SegDataSample]:
    """Random targets, every pixel valid."""
    task, shape, samples = head.decode_head.task, (cell.size, cell.size), []
    for _ in range(cell.batch):
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape, category_id=0))
        target, _ = task.pseudo_label(torch.rand(1, task.channels, *shape, device=device) + 0.5)
        sample.set_data({task.field: PixelData(data=target[0])})
        samples.append(sample)
    return samples
