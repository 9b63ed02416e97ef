"""Plain heads side by side on ViT-L/16, for NYUD-MT: what InvPT's decoder is compared with.

Ours: of which layers published baselines of this kind are made was not found. For each task an FCNHead of mmseg stands
on the last map, at 1/16: two 3 × 3 convolutions of 512 channels with batch norm, and a 1 × 1 convolution. Losses and
their factors are InvPT's. Depth is a sigmoid times ``max_depth``, where InvPT leaves metres as they come.

Its data preprocessor is that of the data: ``model = dict(data_preprocessor=_base_.data_preprocessor)``.
"""

_base_ = ['./invpt_vit-l.py']

fcn = dict(
    type='FCNHead',
    in_channels=1024,
    in_index=3,
    channels=512,
    num_convs=2,
    concat_input=False,
    dropout_ratio=0.0,
    norm_cfg=dict(type='BN'),
    align_corners=False,
)
# Sum / number of pixels with a class, as InvPT's.
classes = dict(fcn, num_classes=40, loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
normals = dict(
    type='DenseTaskHead',
    task=_base_.tasks.normal,
    head=fcn,
    loss_decode=dict(type='PixelL1Loss', unit=True, loss_weight=10.0),
)
depths = dict(type='DenseTaskHead', task=_base_.tasks.depth, head=fcn, loss_decode=dict(type='PixelL1Loss'))
model = dict(
    decode_head=dict(
        _delete_=True,
        type='TaskHeads',
        tasks=_base_.tasks,
        heads=dict(semantic_segmentation=classes, depth=depths, normal=normals),
    )
)
