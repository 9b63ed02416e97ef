"""Bae et al.'s decoder on features of Stable Diffusion 1.x's U-Net (frozen), as Diff-2-in-1 attaches it.

The weights are named by ``$SD_WEIGHTS``, or by ``model.backbone.diffusion``. All blocks of the U-Net are read, as in
the released code; where that draws noise and samples the posterior, here one image has one set of features.
"""

task = dict(type='SurfaceNormal', kappa=True)
data_preprocessor = dict(
    type='DenseDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0, size=(480, 640)
)
model = dict(
    type='DenseEstimator',
    task=task,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='DiffusionBackbone',
        diffusion='{{$SD_WEIGHTS:weights/stable-diffusion-v1-5}}',
        creation=False,
        feature=dict(preset='released', noise=False, posterior='mode'),
        regime='frozen',
        bf16='auto',
    ),
    neck=dict(
        type='DiffusionPyramidAdapter',
        in_channels=[2560, 4160, 7040, 7680],
        in_strides=[8, 16, 32, 64],
        out_channels=[24, 40, 64, 176, 2048],
        joins=[8, 8, 16, 32],
    ),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(type='BaeNormalHead', task=task, norm='GN', sampling_ratio=0.4, importance_ratio=0.7),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
