"""Plain heads side by side on ViT-L/16, as ``mtl_vit-l.py``, for PASCAL-Context: 512 × 512 images."""

_base_ = ['./mtl_vit-l.py']

tasks = dict(
    _delete_=True,
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=21),
    human_parts=dict(type='HumanParts'),
    saliency=dict(type='Saliency'),
    normal=dict(type='SurfaceNormal'),
)
parts = dict(
    type='DenseTaskHead',
    task=dict(type='HumanParts'),
    head=_base_.fcn,
    loss_decode=dict(type='PixelCrossEntropyLoss', loss_weight=2.0),
)
salient = dict(
    type='DenseTaskHead',
    task=dict(type='Saliency'),
    head=_base_.fcn,
    loss_decode=dict(type='BalancedCrossEntropyLoss', loss_weight=5.0),
)
model = dict(
    task=tasks,
    backbone=dict(img_size=(512, 512)),
    decode_head=dict(
        tasks=tasks,
        heads=dict(
            _delete_=True,
            semantic_segmentation=dict(_base_.classes, num_classes=21),
            human_parts=parts,
            saliency=salient,
            normal=_base_.normals,
        ),
    ),
)
