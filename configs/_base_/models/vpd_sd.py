"""VPD at its published size: Stable Diffusion's U-Net, fine-tuned; FPN; Semantic FPN head; 150 classes of ADE20K.

The weights are named by ``$SD_WEIGHTS``, or by ``model.backbone.diffusion``: a diffusers folder or one file of Stable
Diffusion 1.x (2.x runs as well: the widths are the same).
"""

data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(512, 512),
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='DiffusionBackbone',
        diffusion='{{$SD_WEIGHTS:weights/stable-diffusion-v1-5}}',
        creation=False,
        classes='ADE20KDataset',
        feature=dict(preset='vpd'),
        regime='finetune',
        text_adapter=True,
    ),
    neck=dict(type='FPN', in_channels=[320, 640 + 150, 1280 + 150, 1280], out_channels=256, num_outs=4),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(
            type='FPNHead',
            in_channels=[256] * 4,
            in_index=[0, 1, 2, 3],
            feature_strides=[4, 8, 16, 32],
            channels=256,
            dropout_ratio=0.1,
            num_classes=150,
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
