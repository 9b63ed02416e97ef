"""Bae et al. on NYUv2's 795 images as published (ICCV 2021): EfficientNet-B5, no diffusion model.

    mmdiff2in1 check configs/baselines/bae_nyuv2-normal.py
    mmdiff2in1 train configs/baselines/bae_nyuv2-normal.py --cfg-options model.backbone.pretrained=FOLDER
    mmdiff2in1 test configs/baselines/bae_nyuv2-normal.py CHECKPOINT --show-dir pictures

The published checkpoints are tested the same way, after ``mmdiff2in1 convert bae``. The one for NYUv2 was
trained on 30,907 frames, not on these 795 (baegwangbin/surface_normal_uncertainty, issue 8): compare like with like.

Expected score: not yet measured.
"""

_base_ = [
    '../_base_/models/bae_efficientnet-b5.py',
    '../_base_/datasets/nyuv2_normal.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/bae_5e.py',
]

default_hooks = dict(checkpoint=dict(interval=198, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
