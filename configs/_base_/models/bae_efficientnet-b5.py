"""Bae et al. as published: EfficientNet-B5 (transformers' layers), decoder with group normalisation."""

task = dict(type='SurfaceNormal', kappa=True)
data_preprocessor = dict(
    type='DenseDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    size=(480, 640),
)
model = dict(
    type='DenseEstimator',
    task=task,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='HFBackbone',
        model=dict(
            model_type='efficientnet',
            width_coefficient=1.6,
            depth_coefficient=2.2,
            hidden_dim=2048,
            image_size=456,
            batch_norm_momentum=0.9,
            drop_connect_rate=0.0,
        ),
        # A folder of transformers with the ImageNet weights, e.g. of google/efficientnet-b5; None: random ones.
        pretrained=None,
    ),
    decode_head=dict(type='BaeNormalHead', task=task, norm='GN', sampling_ratio=0.4, importance_ratio=0.7),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
