"""InvPT's decoder on features of Stable Diffusion 1.x's U-Net (frozen), brought to 1/8, 1/16 and 1/32 by an adapter.

Ours: how the paper joins InvPT to diffusion features was not found. The weights are named by ``$SD_WEIGHTS``, or by
``model.backbone.diffusion``; its data preprocessor is that of the data with mean and std of 127.5.
"""

_base_ = ['./invpt_vit-l.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='DiffusionBackbone',
        diffusion='{{$SD_WEIGHTS:weights/stable-diffusion-v1-5}}',
        creation=False,
        feature=dict(preset='released', noise=False, posterior='mode', taps='vpd'),
        regime='frozen',
        bf16='auto',
    ),
    neck=dict(
        type='DiffusionPyramidAdapter',
        in_channels=[320, 640, 1280, 1280],
        in_strides=[8, 16, 32, 64],
        out_channels=[320, 640, 1024],
        out_strides=[8, 16, 32],
    ),
    decode_head=dict(
        _delete_=True,
        type='GenerativeDecodeHead',
        head=dict(
            type='InvPTHead',
            tasks=_base_.tasks,
            in_channels=[320, 640, 1024],
            in_index=[0, 1, 2],
            in_strides=[8, 16, 32],
        ),
    ),
)
