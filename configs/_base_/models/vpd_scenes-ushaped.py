"""vpd_scenes with a detail path and a U-shaped decoder: the built-in U-Net (frozen), full resolution, 0.8 M trained.

Where another generator is named, or another detail path, ``in_channels`` alone must follow: of each level of the
backbone, fine to coarse, what it holds. A list that does not fit is refused with the right one.
"""

_base_ = ['./vpd_scenes.py']

num_classes = len(_base_.classes)
# Strides 1 and 2: VAE encoder + stem; 4: U-Net; 8 and 16: U-Net + class maps.
in_channels = [16 + 16, 32 + 16, 64, 96 + num_classes, 128 + num_classes]
model = dict(
    backbone=dict(detail=dict(encoder=True, stem=16)),
    neck=None,
    decode_head=dict(
        head=dict(
            _delete_=True,
            type='UShapedHead',
            in_channels=in_channels,
            widths=[24, 32, 64, 96, 128],
            dropout_ratio=0.1,
            num_classes=num_classes,
            align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        ),
    ),
)
