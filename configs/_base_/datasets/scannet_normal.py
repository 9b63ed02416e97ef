"""ScanNet's frames with FrameNet's normals to train with; NYUv2's 654 test images to test on (another domain).

data/scannet/scannet-frames/scene0000_00/frame-000000-{color,normal,orient-mask}.png
data/scannet/splits/train.txt   python tools/dataset_converters/framenet_splits.py
data/nyuv2/test/{img,norm}/     see nyuv2_normal.py
"""

_base_ = ['./nyuv2_normal.py']

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadDenseAnnotation', task=_base_.label_task),
    # The size of NYUv2, on which it is tested.
    dict(type='DenseResize', scale=(640, 480), keep_ratio=False),
    dict(type='DenseRandomFlip', prob=0.5),
    dict(type='ColourAugmentation', prob=0.5),
    dict(type='PackDenseInputs'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ScanNetNormalDataset',
        data_root='data/scannet',
        ann_file='splits/train.txt',
        pipeline=train_pipeline,
    )
)
