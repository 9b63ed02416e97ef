"""Bae et al.'s decoder on features of the built-in U-Net (frozen), scaled down: adapter to five strides, head."""

task = dict(type='SurfaceNormal', kappa=True)
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
    neck=dict(
        type='DiffusionPyramidAdapter',
        in_channels=[32, 64, 96, 128],
        in_strides=[2, 4, 8, 16],
        out_channels=[24, 32, 48, 64, 96],
    ),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(
            type='BaeNormalHead',
            task=task,
            in_channels=[24, 32, 48, 64, 96],
            widths=[64, 64, 48, 32],
            point_channels=48,
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
