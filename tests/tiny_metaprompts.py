"""MetaPrompts' two segmentors, narrow, on a Stable Diffusion of three narrow levels: latents of half the side."""

from pathlib import Path

import torch
from mmseg.registry import MODELS

PROMPTS, CLASSES, LEVELS = 6, 5, 3
NORMALISED = dict(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True)
TASK = dict(type='Depth', max_depth=10.0)


def backbone(weights: Path, task: str = 'segmentation', **changes) -> dict:
    """Of `configs/_base_/models/metaprompts{,_depth}_sd.py`, with fewer prompts."""
    config = dict(type='MetaPromptBackbone', diffusion=str(weights), num_prompts=PROMPTS, passes=3, regime='finetune')
    if task == 'depth':
        config |= dict(shared=False, rearrangement='joined', size='stretched')
    return config | changes


def segmentor(weights: Path, **changes) -> dict:
    """EncoderDecoder with UPerHead and FCNHead; `changes` of the backbone."""
    norm = dict(type='SyncBN')
    upernet = dict(
        type='UPerHead',
        in_channels=[PROMPTS] * LEVELS,
        in_index=list(range(LEVELS)),
        channels=8,
        dropout_ratio=0.0,
        num_classes=CLASSES,
        norm_cfg=norm,
        loss_decode=[
            dict(type='CrossEntropyLoss', loss_name='loss_ce', loss_weight=1.0),
            dict(type='LovaszLoss', reduction='none', loss_weight=1.0),
        ],
    )
    fcn = dict(
        type='FCNHead',
        in_channels=PROMPTS,
        in_index=2,
        channels=8,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=CLASSES,
        norm_cfg=norm,
        loss_decode=dict(type='CrossEntropyLoss', loss_name='loss_ce_aux', loss_weight=0.4),
    )
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', **NORMALISED),
        backbone=backbone(weights, **changes),
        decode_head=dict(type='GenerativeDecodeHead', head=upernet),
        auxiliary_head=fcn,
        test_cfg=dict(mode='whole'),
    )


def depth_estimator(weights: Path, **changes) -> dict:
    """DenseEstimator with a DeconvolutionHead; `changes` of the backbone."""
    layers = dict(type='DeconvolutionHead', in_channels=PROMPTS, channels=16, filters=[8], kernel=2)
    return dict(
        type='DenseEstimator',
        task=TASK,
        data_preprocessor=dict(type='DenseDataPreProcessor', **NORMALISED),
        backbone=backbone(weights, 'depth', **changes),
        decode_head=dict(type='GenerativeDecodeHead', head=dict(type='DenseTaskHead', task=TASK, head=layers)),
        test_cfg=dict(mode='whole'),
    )


def trained(config: dict) -> torch.nn.Module:
    """A model that has moved away from where it began, running averages included; in eval mode."""
    torch.manual_seed(2)
    model = MODELS.build(config).eval()
    torch.manual_seed(7)
    for name, tensor in model.state_dict().items():
        if 'vae' not in name and 'diffusion.text' not in name and tensor.is_floating_point():
            noise = torch.rand_like(tensor)
            tensor.copy_(noise + 0.5 if 'running_var' in name else tensor + 0.1 * (noise - 0.5))
    return model
