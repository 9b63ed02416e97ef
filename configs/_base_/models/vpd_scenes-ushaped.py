"""vpd_scenes with a detail path and a U-shaped decoder: the built-in U-Net (frozen), full resolution, 1.2 M trained.

Where another generator is named, or another detail path, ``in_channels`` alone must follow: of each level of the
backbone, fine to coarse, what it holds. A list that does not fit is refused with the right one.
"""

_base_ = ['./vpd_scenes.py']

num_classes = len(_base_.classes)
# A stem of four strides is the encoder of a small CNN: with one of strides 1 and 2 alone it scores 5 points less.
stem = [16, 32, 64, 128]
# Strides 1 and 2: VAE encoder + stem; 4: U-Net + stem; 8: U-Net + class maps + stem; 16: U-Net + class maps.
in_channels = [16 + stem[0], 32 + stem[1], 64 + stem[2], 96 + num_classes + stem[3], 128 + num_classes]
model = dict(
    backbone=dict(detail=dict(encoder=True, stem=stem)),
    neck=None,
    decode_head=dict(
        head=dict(
            _delete_=True,
            type='UShapedHead',
            in_channels=in_channels,
            widths=[16, 32, 64, 96, 128],
            norm_cfg=dict(type='BN', requires_grad=True),
            dropout_ratio=0.1,
            num_classes=num_classes,
            align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        ),
    ),
)
