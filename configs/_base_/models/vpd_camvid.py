"""vpd_scenes for CamVid: 11 classes, ignore index 11, images of 96 × 128, a diffusion model made from them alone."""

_base_ = ['./vpd_scenes.py']

model = dict(
    data_preprocessor=dict(seg_pad_val=11, size=(96, 128), test_cfg=dict(size_divisor=1)),
    backbone=dict(
        diffusion='work_dirs/camvid_diffusion',
        classes=None,
        # Trained without captions: only the empty prompt means anything to it.
        feature=dict(prompt='empty', map_levels=()),
    ),
    neck=dict(in_channels=[32, 64, 96, 128]),
    decode_head=dict(head=dict(num_classes=11, ignore_index=11)),
)
