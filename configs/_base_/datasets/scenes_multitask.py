"""Scenes with all five kinds of labels; a zoom brings things nearer; the rest as in ``scenes.py``."""

_base_ = ['./scenes.py']

load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadClassAnnotation'),
    dict(type='LoadDenseAnnotation', task=dict(type='Depth', max_depth=10.0)),
    dict(type='LoadDenseAnnotation', task=dict(type='SurfaceNormal')),
    dict(type='LoadDenseAnnotation', task=dict(type='Saliency')),
    dict(type='LoadDenseAnnotation', task=dict(type='Edges')),
]
train_pipeline = [
    *load,
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
test_pipeline = [*load, dict(type='PackDenseInputs')]
folders = dict(
    img_path='images',
    seg_map_path='semantic',
    depth_map_path='depth',
    normal_map_path='normal',
    saliency_map_path='saliency',
    edge_map_path='edge',
)
train_dataloader = dict(
    dataset=dict(data_prefix={key: f'train/{name}' for key, name in folders.items()}, pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(data_prefix={key: f'val/{name}' for key, name in folders.items()}, pipeline=test_pipeline)
)
test_dataloader = dict(
    dataset=dict(data_prefix={key: f'test/{name}' for key, name in folders.items()}, pipeline=test_pipeline)
)
val_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='PooledDepthMetric', max_depth=10.0),
    dict(type='SurfaceNormalMetric'),
    dict(type='SaliencyMetric'),
    # 1.8 pixels of 64 × 64; with the 0.0075 of large images an edge would have to be met to the pixel.
    dict(type='EdgeMetric', max_distance=0.02),
]
test_evaluator = val_evaluator
