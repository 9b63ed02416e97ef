"""PASCAL-Context with several tasks: 4,998 images to train with, 5,105 to test on, in the folders of ATRC and InvPT.

    data/PASCALContext/JPEGImages/ID.jpg, ImageSets/Context/{train,val}.txt
    semseg/{VOC12,pascal-context}/ID.png, human_parts/ID.mat, normals_distill/ID.png, sal_distill/ID.png
    pascal-context/trainval/ID.mat

21 classes, human parts, saliency and normals, the task set of the paper; ``pascal-context-edge.py`` adds edges. A
training model takes ``data_preprocessor`` from here: crops are padded around their centre to ``crop_size``, test images
too. ``mmdiff2in1 check CONFIG`` looks at all of it before a training does.
"""

dataset_type = 'PASCALContextMTDataset'
data_root = 'data/PASCALContext'
crop_size = (512, 512)
set_tasks = ('semantic_segmentation', 'human_parts', 'saliency', 'normal')
data_preprocessor = dict(
    type='DenseDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size=crop_size,
    centred=True,
    test_cfg=dict(size=crop_size),
)

load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadClassAnnotation'),
    dict(type='LoadDenseAnnotation', task=dict(type='HumanParts')),
    dict(type='LoadDenseAnnotation', task=dict(type='Saliency')),
    dict(type='LoadDenseAnnotation', task=dict(type='SurfaceNormal')),
]
augment = [
    dict(type='RandomZoom', ratio_range=(0.5, 2.0)),
    dict(type='DenseRandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='DenseRandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='IgnoreWithoutPersons'),
    dict(type='PackDenseInputs'),
]
finish = [dict(type='IgnoreWithoutPersons'), dict(type='PackDenseInputs')]
train_pipeline = [*load, *augment]
test_pipeline = [*load, *finish]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(type=dataset_type, data_root=data_root, part='train', tasks=set_tasks, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, part='val', tasks=set_tasks, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='IoUMetric', iou_metrics=['mIoU']),
    dict(type='ClassIoUMetric', task=dict(type='HumanParts')),
    dict(type='SaliencyMetric'),
    dict(type='SurfaceNormalMetric'),
]
test_evaluator = val_evaluator
