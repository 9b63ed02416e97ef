"""MetaPrompts at its published size: Stable Diffusion's U-Net, fine-tuned, three passes under 150 prompts; UPerNet.

The weights are named by ``$SD_WEIGHTS``, or by ``model.backbone.diffusion``. Source: the published code
(fudan-zvg/meta-prompts, segmentation): prompts shared by the passes, head of 512 channels without dropout, cross
entropy and Lovász, an auxiliary head on the third map with 0.4.
"""

norm_cfg = dict(type='SyncBN', requires_grad=True)
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
        type='MetaPromptBackbone',
        diffusion='{{$SD_WEIGHTS:weights/stable-diffusion-v1-5}}',
        creation=False,
        num_prompts=150,
        passes=3,
        regime='finetune',
    ),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(
            type='UPerHead',
            in_channels=[150] * 4,
            in_index=[0, 1, 2, 3],
            pool_scales=(1, 2, 3, 6),
            channels=512,
            dropout_ratio=0.0,
            num_classes=150,
            norm_cfg=norm_cfg,
            align_corners=False,
            loss_decode=[
                dict(type='CrossEntropyLoss', loss_name='loss_ce', use_sigmoid=False, loss_weight=1.0),
                dict(type='LovaszLoss', reduction='none', loss_weight=1.0),
            ],
        ),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=150,
        in_index=2,
        channels=512,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_name='loss_ce_aux', use_sigmoid=False, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
