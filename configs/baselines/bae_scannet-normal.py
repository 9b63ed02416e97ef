"""Bae et al.'s decoder on diffusion features, trained on ScanNet and tested on NYUv2: the baseline across domains.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    python tools/dataset_converters/framenet_splits.py data/scannet/train_test_split.pkl --out data/scannet/splits
    mmdiff2in1 check configs/baselines/bae_scannet-normal.py
    mmdiff2in1 train configs/baselines/bae_scannet-normal.py

FrameNet's normals of ScanNet point the other way (× −1) and are turned while they are read. Decoder with batch
normalisation, as Bae et al. have it on ScanNet; five epochs of FrameNet's some 200,000 frames, batch 4. The published
checkpoint has EfficientNet-B5: ``baselines/bae_nyuv2-normal.py --cfg-options model.decode_head.norm=BN``.

Expected score: not yet measured.
"""

_base_ = [
    '../_base_/models/bae_sd.py',
    '../_base_/datasets/scannet_normal.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/bae_5e.py',
]

model = dict(decode_head=dict(head=dict(norm='BN')))
train_cfg = dict(max_iters=250000, val_interval=25000)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min_ratio=25, begin=0, end=74999, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-4, begin=74999, end=249999, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, begin=0, end=74999, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=74999, end=249999, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=25000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
