"""Scenes with surface normals as labels; the rest as in ``scenes.py``."""

_base_ = ['./scenes.py']

label_task = dict(type='SurfaceNormal', kappa=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDenseAnnotation', task=label_task),
    dict(type='RandomResize', resize_type='DenseResize', scale=(64, 64), ratio_range=(1.0, 1.5), keep_ratio=True),
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
        data_prefix=dict(_delete_=True, img_path='train/images', normal_map_path='train/normal'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(_delete_=True, img_path='val/images', normal_map_path='val/normal'), pipeline=test_pipeline
    )
)
test_dataloader = dict(
    dataset=dict(
        data_prefix=dict(_delete_=True, img_path='test/images', normal_map_path='test/normal'), pipeline=test_pipeline
    )
)
val_evaluator = dict(_delete_=True, type='SurfaceNormalMetric')
test_evaluator = val_evaluator
