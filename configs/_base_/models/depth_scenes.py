"""Depth on decoder features of the built-in U-Net (frozen): FPN, and mmseg's FPN head as a head for depth."""

task = dict(type='Depth', max_depth=10.0)
data_preprocessor = dict(
    type='DenseDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_val=0, size=(64, 64)
)
model = dict(
    type='DenseEstimator',
    task=task,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='DiffusionBackbone',
        diffusion='builtin:scenes',
        creation=False,
        # The frozen U-Net of Scenes: see vpd_scenes.py. No classes, so no maps of them.
        feature=dict(preset='vpd', prompt='empty', map_levels=(), latent_scale=True, timestep=50),
        detail=dict(encoder=[2]),
        regime='frozen',
        bf16='auto',
    ),
    neck=dict(type='FPN', in_channels=[32, 64, 96, 128], out_channels=64, num_outs=4),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(
            type='DenseTaskHead',
            task=task,
            head=dict(
                type='FPNHead',
                in_channels=[64] * 4,
                in_index=[0, 1, 2, 3],
                feature_strides=[2, 4, 8, 16],
                channels=64,
                dropout_ratio=0.1,
                norm_cfg=dict(type='BN', requires_grad=True),
                align_corners=False,
            ),
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
