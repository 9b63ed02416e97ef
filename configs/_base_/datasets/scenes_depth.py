"""Scenes with depth as labels; a zoom brings things nearer; the rest as in ``scenes.py``."""

_base_ = ['./scenes.py']

label_task = dict(type='Depth', max_depth=10.0)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDenseAnnotation', task=label_task),
    dict(
        type='RandomResize',
        resize_type='DenseResize',
        scale=(64, 64),
        ratio_range=(1.0, 1.5),
        keep_ratio=True,
        scale_values=True,
    ),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='DenseRandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDenseInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDenseAnnotation', task=label_task),
    dict(type='PackDenseInputs'),
]
train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(_delete_=True, img_path='train/images', depth_map_path='train/depth'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(_delete_=True, img_path='val/images', depth_map_path='val/depth'), pipeline=test_pipeline
    )
)
test_dataloader = dict(
    dataset=dict(
        data_prefix=dict(_delete_=True, img_path='test/images', depth_map_path='test/depth'), pipeline=test_pipeline
    )
)
val_evaluator = dict(_delete_=True, type='PooledDepthMetric', max_depth=10.0)
test_evaluator = val_evaluator
