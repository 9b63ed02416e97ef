"""Classes, depth and normals on decoder features of the built-in U-Net (frozen): FPN, an FPN head for each task."""

tasks = dict(
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=11),
    depth=dict(type='Depth', max_depth=10.0),
    normal=dict(type='SurfaceNormal'),
)
fpn_head = dict(
    type='FPNHead',
    in_channels=[64] * 4,
    in_index=[0, 1, 2, 3],
    feature_strides=[2, 4, 8, 16],
    channels=64,
    dropout_ratio=0.1,
    norm_cfg=dict(type='BN', requires_grad=True),
    align_corners=False,
)
data_preprocessor = dict(
    type='DenseDataPreProcessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(64, 64),
)
model = dict(
    type='DenseEstimator',
    task=tasks,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='DiffusionBackbone',
        diffusion='builtin:scenes',
        # The words of the captions that stand for the classes, in label order, and why so: see vpd_scenes.py.
        classes=('floor', 'room', 'walls', 'door', 'window', 'picture', 'cabinet', 'table', 'bed', 'ball', 'bin'),
        feature=dict(preset='vpd', prompt='class_names', latent_scale=True, timestep=50),
        regime='frozen',
        bf16='auto',
    ),
    neck=dict(type='FPN', in_channels=[32, 64 + 11, 96 + 11, 128], out_channels=64, num_outs=4),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(
            type='TaskHeads',
            tasks=tasks,
            heads=dict(
                semantic_segmentation=dict(fpn_head, num_classes=11),
                depth=dict(type='DenseTaskHead', task=tasks['depth'], head=fpn_head),
                normal=dict(type='DenseTaskHead', task=tasks['normal'], head=fpn_head),
            ),
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
