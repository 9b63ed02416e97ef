"""VPD, scaled down: decoder features and class maps of the built-in U-Net (frozen), FPN, Semantic FPN head."""

# The words of the captions that stand for the classes, in label order: captions say "walls", and never "ceiling".
classes = ('floor', 'room', 'walls', 'door', 'window', 'picture', 'cabinet', 'table', 'bed', 'ball', 'bin')
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(64, 64),
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='DiffusionBackbone',
        diffusion='builtin:scenes',
        creation=False,
        classes=classes,
        # A frozen U-Net must see what it was trained on: scaled latents, and a timestep at which its features are rich.
        # Its text encoder knows the words of captions, not the sentences that VPD averages over.
        feature=dict(preset='vpd', prompt='class_names', latent_scale=True, timestep=50),
        # Its latent has a fourth of the resolution: the VAE encoder's level of stride 2 stands before the U-Net's.
        detail=dict(encoder=[2]),
        regime='frozen',
        bf16='auto',
    ),
    neck=dict(type='FPN', in_channels=[32, 64, 96 + 11, 128 + 11], out_channels=64, num_outs=4),
    decode_head=dict(
        type='GenerativeDecodeHead',
        head=dict(
            type='FPNHead',
            in_channels=[64] * 4,
            in_index=[0, 1, 2, 3],
            feature_strides=[2, 4, 8, 16],
            channels=64,
            dropout_ratio=0.1,
            num_classes=11,
            norm_cfg=dict(type='BN', requires_grad=True),
            align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
