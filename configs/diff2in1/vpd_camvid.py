"""Diff-2-in-1 on CamVid's real images, with a diffusion model trained from scratch on the training images alone.

    python tools/pretrain_diffusion.py --images data/camvid/images/train --out work_dirs/camvid_diffusion --size 96 128
    python tools/train.py configs/diff2in1/vpd_camvid.py

A generator made from 250 images knows little: this config shows that the chain runs on real images, not what the
method can do with a pretrained one. ``model.segmentor.backbone.diffusion`` and ``stages.synthesis.diffusion`` take
any folder in diffusers' layout.

Expected score: not yet measured over seeds.
"""

_base_ = [
    '../_base_/models/vpd_scenes.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/scenes.py',
    '../_base_/default_runtime.py',
]

diffusion = 'work_dirs/camvid_diffusion'
max_iters = 300

segmentor = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5] * 3,
        std=[127.5] * 3,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=11,
        size=(96, 128),
        test_cfg=dict(size_divisor=1),
    ),
    backbone=dict(
        type='DiffusionBackbone',
        diffusion=diffusion,
        # Trained without captions: only the empty prompt means anything to it.
        feature=dict(preset='vpd', prompt='empty', map_levels=(), latent_scale=True, timestep=50),
        regime='frozen',
        bf16='auto',
    ),
    neck=dict(type='FPN', in_channels=[32, 64, 96, 128], out_channels=64, num_outs=4),
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
            ignore_index=11,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
model = dict(
    _delete_=True,
    type='SelfImprovingSegmentor',
    segmentor=segmentor,
    normalize_by='real',
    synthetic_weight=0.3,
    min_confidence=0.9,
)
train_dataloader = dict(
    batch_sampler=dict(type='MixedBatchSampler'),
    dataset=dict(
        _delete_=True,
        type='SyntheticSampleDataset',
        dataset=_base_.train_dataloader.dataset,
        store=None,  # set by the stage chain: <work_dir>/synthetic
        mix=dict(added=8),
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=150)
val_cfg = dict(_delete_=True, type='SelfImprovingValLoop')
test_cfg = dict(_delete_=True, type='SelfImprovingTestLoop', exploiter=True)
optim_wrapper = dict(constructor='ExploiterOptimWrapperConstructor', optimizer=dict(lr=3e-3))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_iters, eta_min_ratio=0.01, by_epoch=False)]
custom_hooks = [
    dict(type='ExactResumeHook'),
    dict(type='SelfImprovingHook', remaining=0.05, samples_per_update=40),
]
stages = dict(
    warmup=dict(
        train_cfg=dict(max_iters=500, val_interval=250),
        optim_wrapper=dict(optimizer=dict(lr=6e-3)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, end=50, by_epoch=False),
            dict(type='CosineAnnealingLR', T_max=450, begin=50, end=500, eta_min_ratio=0.2, by_epoch=False),
        ],
        carry_optimizer=True,
    ),
    synthesis=dict(
        diffusion=diffusion,
        caption_fallback='',
        T=600,
        num_calls=20,
        grid='even',
        solver='dpm++',
        guidance_scale=1.0,
        samples_per_image=1,
        size=96,
        batch_size=10,
        seed=0,
    ),
)
