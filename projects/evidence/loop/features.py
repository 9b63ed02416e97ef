"""What no arm changes is made once per image: all of the features under a frozen U-Net, else the latents.

B samples; H, W pixels; c_l, h_l, w_l: level l of the features; c, h, w: latent.
"""

import copy
from collections.abc import Sequence

from mmengine.device import get_device
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.models.backbones import DiffusionBackbone
from mmdiff2in1.models.backbones.frozen_features import FrozenFeatures
from mmdiff2in1.tasks import DenseTask

WIDTH = 32


def make_backbone(config: dict) -> DiffusionBackbone:
    """The backbone of an mmseg config, on the GPU if there is one."""
    backbone = MODELS.build(config).to(get_device())
    if backbone.text_adapter is not None:
        raise ValueError('a text adapter is none of the arms compared here: text_adapter must be False')
    return backbone


def shared(backbone: DiffusionBackbone, images: Tensor) -> list[Tensor]:
    """Images (B, 3, H, W) → what no arm changes: levels (B, c_l, h_l, w_l), or the latents (B, c, h, w) alone."""
    frozen = backbone.frozen_features(images)
    return [frozen.latents] if frozen.pyramid is None else list(frozen.pyramid)


class Trunk(nn.Module):
    """A U-Net that learns: latents → levels."""

    def __init__(self, backbone: DiffusionBackbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, seen: Sequence[Tensor]) -> tuple[Tensor, ...]:
        (latents,) = seen
        height, width = (side * self.backbone.diffusion.downscale for side in latents.shape[-2:])
        return self.backbone(FrozenFeatures((height, width), latents=latents))


def make_model(task: DenseTask, backbone: DiffusionBackbone) -> nn.Sequential:
    """A head for what :func:`shared` gives, behind the U-Net itself if that one is to learn.

    FPN and, on its finest level, an FCN head, both mmseg's: half the time of a Semantic FPN head on a CPU. Group
    normalisation, so that synthetic images shift no statistics of the real ones.
    """
    channels = backbone.out_channels
    neck = dict(type='FPN', in_channels=list(channels), out_channels=WIDTH, num_outs=len(channels))
    head = dict(
        type='FCNHead',
        in_channels=WIDTH,
        in_index=0,
        channels=WIDTH,
        num_convs=2,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=task.channels,
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        align_corners=False,
    )
    parts = [MODELS.build(neck), MODELS.build(head)]
    for part in parts:
        part.init_weights()
    return nn.Sequential(*([] if backbone.regime == 'frozen' else [Trunk(copy.deepcopy(backbone))]), *parts)
