"""InvPT on ViT-L/16 as published for NYUD-MT, without edges: 448 × 576 images, skips after blocks 6 and 12.

Its data preprocessor is that of the data: ``model = dict(data_preprocessor=_base_.data_preprocessor)``.
"""

tasks = dict(
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=40),
    depth=dict(type='Depth', max_depth=10.0),
    normal=dict(type='SurfaceNormal'),
)
# Batch norms count all images of a step where several processes share it, as published.
sync_bn = 'torch'
model = dict(
    type='DenseEstimator',
    task=tasks,
    backbone=dict(
        type='ViTLevels',
        img_size=(448, 576),
        width=1024,
        depth=24,
        heads=16,
        drop_path_rate=0.15,
        # AugReg's .npz of ViT-L/16, fine-tuned at 384 × 384, or timm's file of it; None: random weights.
        pretrained=None,
    ),
    decode_head=dict(type='InvPTHead', tasks=tasks, in_channels=[1024] * 3, channels=512, widths=[576, 288, 144]),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
