"""NYUv2 surface normals in the pack of Bae et al.: 795 images to train with, 654 to test on, 640 × 480.

    data/nyuv2/{train,test}/{img,norm}/000002.png

``mmdiff2in1 check CONFIG`` looks at all of it before a training does, the frame of the normals included.
"""

dataset_type = 'NYUv2NormalDataset'
data_root = 'data/nyuv2'
label_task = dict(type='SurfaceNormal', kappa=True)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDenseAnnotation', task=label_task),
    dict(type='DenseRandomFlip', prob=0.5),
    dict(type='ColourAugmentation', prob=0.5),
    dict(type='PackDenseInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDenseAnnotation', task=label_task),
    dict(type='PackDenseInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(type=dataset_type, data_root=data_root, part='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, part='test', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='SurfaceNormalMetric')
test_evaluator = val_evaluator
