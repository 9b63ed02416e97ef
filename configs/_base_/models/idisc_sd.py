"""iDisc's head on features of Stable Diffusion 1.x's U-Net (frozen): the map of each of its four decoder levels.

The weights are named by ``$SD_WEIGHTS``, or by ``model.backbone.diffusion``.
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
        feature=dict(preset='released', noise=False, posterior='mode', taps='vpd'),
        regime='frozen',
        bf16='auto',
    ),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(type='IDiscHead', task=task, in_channels=[320, 640, 1280, 1280]),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
