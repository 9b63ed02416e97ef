"""Five tasks on the features of ``vpd_scenes.py``: an FPN head for each."""

_base_ = ['./vpd_scenes.py']

tasks = dict(
    semantic_segmentation=dict(type='SemanticSegmentation', num_classes=11),
    depth=dict(type='Depth', max_depth=10.0),
    normal=dict(type='SurfaceNormal'),
    saliency=dict(type='Saliency'),
    edge=dict(type='Edges'),
)
fpn_head = dict(
    type='FPNHead',
    in_channels=[64] * 4,
    in_index=[0, 1, 2, 3],
    feature_strides=[2, 4, 8, 16],
    channels=32,
    dropout_ratio=0.1,
    norm_cfg=dict(type='BN', requires_grad=True),
    align_corners=False,
)
data_preprocessor = dict(type='DenseDataPreProcessor')
model = dict(
    type='DenseEstimator',
    task=tasks,
    data_preprocessor=data_preprocessor,
    decode_head=dict(
        head=dict(
            _delete_=True,
            type='TaskHeads',
            tasks=tasks,
            heads=dict(
                semantic_segmentation=dict(fpn_head, num_classes=11),
                depth=dict(type='DenseTaskHead', task=tasks['depth'], head=fpn_head),
                normal=dict(type='DenseTaskHead', task=tasks['normal'], head=fpn_head),
                saliency=dict(type='DenseTaskHead', task=tasks['saliency'], head=fpn_head),
                edge=dict(type='DenseTaskHead', task=tasks['edge'], head=fpn_head),
            ),
        ),
    ),
)
