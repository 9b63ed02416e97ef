"""The model of a first config: a built-in one, or a pretrained encoder of transformers under SegFormer's head."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .encoder_images import RGB, normalisation
from .own_data import STRIDE

MODELS = {'unet': ('unet_small', 5e-3), 'segformer': ('segformer_mit-b0', 6e-5)}
"""Name → file of ``_base_/models``, and the rate that it learns at."""
PRETRAINED_RATE, HEAD_FACTOR = 6e-5, 10.0
"""SegFormer's (Xie et al. 2021, §4.1): of the encoder, and by how much faster the head learns."""
LEVELS = 4


@dataclass(frozen=True)
class FirstModel:
    """What a first config says of its model.

    Attributes:
        base: File of ``_base_/models`` without its ending; None: the fields are all.
        fields: Entries of ``model`` as text, each of a line.
        preprocessor: Entries of ``data_preprocessor`` as text, before its size.
        rate: Learning rate.
        paramwise: ``paramwise_cfg`` of the optimizer; None: all learn alike.
        multiple: What height and width must be multiples of.
    """

    base: str | None
    fields: str = ''
    preprocessor: str = ''
    rate: float = PRETRAINED_RATE
    paramwise: dict[str, Any] | None = None
    multiple: int = STRIDE


def built_in(name: str, weights: Path | None) -> FirstModel:
    """One of `MODELS`; `weights` of the backbone, None: random ones."""
    base, rate = MODELS[name]
    if name != 'segformer':
        return FirstModel(base, rate=rate)
    init = None if weights is None else dict(type='Pretrained', checkpoint=str(weights.absolute()))
    return FirstModel(base, f'    backbone=dict(init_cfg={init}),\n', rate=rate)


def of_encoder(folder: Path, frozen: bool, classes: int) -> FirstModel:
    """An encoder as ``hf download`` or ``save_pretrained`` writes it, read once to see that it can be.

    One that gives maps of several strides gives them all; a plain vision transformer its last map and three before, a
    quarter of its depth apart.

    Args:
        folder: With ``config.json`` and weights.
        frozen: Its weights stay; the head alone is trained.
        classes: Of the head.

    Raises:
        FileNotFoundError, ValueError: See `HFBackbone` and `normalisation`; an encoder of other images than RGB.
    """
    from mmdiff2in1.models.backbones.hf_backbone import HFBackbone

    folder = folder.expanduser()
    mean, std = normalisation(folder)
    found = HFBackbone(str(folder))
    channels = getattr(found.config, 'num_channels', RGB)
    if channels != RGB:
        raise ValueError(f'{folder}: an encoder of images of {channels} channels, expected {RGB}, RGB')
    stages = len(getattr(found.model, 'stage_names', ()))
    if len(set(found.strides)) == 1 and stages > LEVELS:
        found = HFBackbone(str(folder), out_indices=[(stages - 1) * k // LEVELS for k in range(1, LEVELS + 1)])
    largest = max(found.strides)
    count, place = len(found.out_channels), str(folder.absolute())
    fields = f"""    type='EncoderDecoder',
    backbone=dict(type='HFBackbone', model={place!r}, out_indices={found.out_indices}, frozen={frozen}),
    decode_head=dict(
        type='SegformerHead',
        in_channels={found.out_channels},
        in_index={list(range(count))},
        channels=256,
        dropout_ratio=0.1,
        num_classes={classes},
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
"""
    faster = dict(custom_keys=dict(decode_head=dict(lr_mult=HEAD_FACTOR)))
    return FirstModel(
        None,
        fields,
        f"type='SegDataPreProcessor', mean={mean}, std={std}, bgr_to_rgb=True, pad_val=0, seg_pad_val=255, ",
        paramwise=faster,
        multiple=STRIDE if STRIDE % largest == 0 else math.lcm(*found.strides),
    )
