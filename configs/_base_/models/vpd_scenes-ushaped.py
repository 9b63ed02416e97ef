"""vpd_scenes with a detail path and a U-shaped decoder: the built-in U-Net (frozen), full resolution, 0.8 M trained.

Where another generator is named, or another detail path, ``in_channels`` alone must follow: of each level of the
backbone, fine to coarse, what it holds. A list that does not fit is refused with the right one.
"""

_base_ = ['./vpd_scenes.py']

num_classes = len(_base_.classes)
# Strides 1 and 2, 4, 8, 16: VAE encoder + stem; U-Net + stem; U-Net + class maps (levels 1 and 2); U-Net.
in_channels = [24 + 16, 32 + 16, 64 + num_classes, 96 + num_classes, 128]
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
