"""NYUv2 depth as VPD has it: 24,231 frames to train with, 654 images to test on; the kind of scene is known.

data/nyu_depth_v2/sync/kitchen_0028b/{rgb_00045.jpg,sync_depth_00045.png}
data/nyu_depth_v2/official_splits/test/bathroom/{rgb_00045.jpg,sync_depth_00045.png}
data/nyu_depth_v2/train_list.txt, test_list.txt          VPD's lists
"""

dataset_type = 'NYUv2DepthDataset'
data_root = 'data/nyu_depth_v2'
label_task = dict(type='Depth', max_depth=10.0)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDenseAnnotation', task=label_task),
    dict(type='CutDepth', prob=0.25),
    dict(type='DenseRandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(480, 480)),
    dict(type='ColourAugmentation', prob=0.5, gamma=(0.8, 1.2), brightness=(0.8, 1.2), channel=(1.0, 1.0)),
    dict(type='PhotoMetricDistortion', brightness_delta=0, contrast_range=(0.8, 1.2)),
    dict(type='PackDenseInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDenseAnnotation', task=label_task),
    dict(type='PackDenseInputs'),
]
train_dataloader = dict(
    batch_size=3,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='StreamSampler'),
    dataset=dict(
        type=dataset_type,
        layout='vpd',
        part='train',
        first_kind=True,  # a study_room is a study: what VPD and its checkpoints are told
        data_root=data_root,
        ann_file='train_list.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        layout='vpd',
        part='test',
        first_kind=True,
        data_root=data_root,
        ann_file='test_list.txt',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='PooledDepthMetric', average='images', crop='eigen', max_depth=10.0)
test_evaluator = val_evaluator
