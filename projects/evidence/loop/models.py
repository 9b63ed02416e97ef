"""The model of an arm: the package's SelfImprovingSegmentor, behind features that were made before."""

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmdiff2in1.models.backbones import DiffusionBackbone
from mmdiff2in1.models.backbones.frozen_features import FrozenFeatures
from mmdiff2in1.tasks import DenseTask, SemanticSegmentation

from . import teachers  # noqa: F401  registers
from .arms import Arm

WIDTH = 32


def make_model(task: DenseTask, backbone: DiffusionBackbone, arm: Arm, warm: nn.Module | None = None) -> Any:
    """θ_E and θ_C of an arm, for what ``backbone.frozen_features`` gives; a U-Net that learns is a copy.

    FPN and, on its finest level, an FCN head, both mmseg's: half the time of a Semantic FPN head on a CPU. Group
    normalisation, so that synthetic images shift no statistics of the real ones.

    Args:
        task: What is predicted.
        backbone: What made the features.
        arm: Labels and weights.
        warm: θ_E after the warm-up, for a rule that asks it.
    """
    channels = list(backbone.out_channels)
    trained = dict(type=copy.deepcopy, x=backbone)
    head = dict(
        type='Float32FCNHead',
        in_channels=WIDTH,
        in_index=0,
        channels=WIDTH,
        num_convs=2,
        concat_input=False,
        dropout_ratio=0.1,
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        align_corners=False,
    )
    segmentor: dict[str, Any] = dict(
        backbone=dict(type='Computed', out_channels=channels) if backbone.regime == 'frozen' else trained,
        neck=dict(type='FPN', in_channels=channels, out_channels=WIDTH, num_outs=len(channels)),
        test_cfg=dict(mode='whole'),
    )
    if isinstance(task, SemanticSegmentation):  # mmseg's heads are heads for classes
        head |= dict(num_classes=task.num_classes, ignore_index=task.ignore_index)
        segmentor |= dict(type='EncoderDecoder', decode_head=head)
    else:
        segmentor |= dict(
            type='DenseEstimator', task=task, decode_head=dict(type='DenseTaskHead', task=task, head=head)
        )
    return MODELS.build(
        dict(
            type='SelfImprovingSegmentor',
            segmentor=segmentor,
            task=task,
            label_rule=arm.rule(warm),
            synthetic_weight=arm.weight,
            # Without real images there is nothing to divide by; the mean over the batch is then that of the pool.
            normalize_by='real' if arm.real else 'batch',
        )
    )


@MODELS.register_module()
class Computed(BaseModule):
    """A backbone whose features were computed elsewhere: (B, 3, H, W) images never come by.

    Args:
        out_channels: Widths of the maps.
    """

    def __init__(self, out_channels: Sequence[int], init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.out_channels = list(out_channels)

    def frozen_features(self, inputs: FrozenFeatures) -> FrozenFeatures:
        """What θ_C and θ_E share: all."""
        return inputs

    def forward(self, inputs: FrozenFeatures) -> tuple[Tensor, ...]:
        """The maps, fine to coarse."""
        return inputs.pyramid


@MODELS.register_module()
class Float32FCNHead(FCNHead):
    """FCNHead whose output is float32 under autocast too: mmseg resizes it and takes losses in the type it finds."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Feature maps → logits (B, C, h, w)."""
        return super().forward(inputs).float()
