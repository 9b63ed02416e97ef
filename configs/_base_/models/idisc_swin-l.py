"""iDisc as published for normals: Swin-L (ImageNet-22k), deformable pixel decoder, 32 internal representations."""

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
            model_type='swin',
            embed_dim=192,
            depths=[2, 2, 18, 2],
            num_heads=[6, 12, 24, 48],
            window_size=7,
            drop_path_rate=0.2,
            layer_norm_eps=1e-6,
        ),
        # A folder of transformers, e.g. of microsoft/swin-large-patch4-window7-224-in22k; None: random weights.
        pretrained=None,
        out_indices=[1, 2, 3, 4],
    ),
    decode_head=dict(type='IDiscHead', task=task, in_channels=[192, 384, 768, 1536]),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
