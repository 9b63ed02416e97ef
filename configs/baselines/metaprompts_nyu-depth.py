"""MetaPrompts on NYUv2 depth as published, without Diff-2-in-1.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 check configs/baselines/metaprompts_nyu-depth.py
    torchrun --nproc-per-node 8 -m mmdiff2in1 train configs/baselines/metaprompts_nyu-depth.py
    mmdiff2in1 test configs/baselines/metaprompts_nyu-depth.py CHECKPOINT

Data, schedule and scoring are those of ``vpd_nyu-depth.py``: the published code is built on VPD's, with its batch of 8
times 3, its 25 epochs, rates and weight decay, its crops of 480 × 480, and windows and mirroring at test time.

Assumed, as the published code that we could read lacks these files: augmentation, loss and optimizer groups (the U-Net
at a hundredth of the rate) are VPD's. No checkpoint of depth is published.

Expected score: not yet measured here. MetaPrompts reports an RMSE of 0.223, VPD 0.254.
"""

_base_ = [
    '../_base_/models/metaprompts_depth_sd.py',
    '../_base_/datasets/nyuv2_depth.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/vpd_depth_25e.py',
]

default_hooks = dict(checkpoint=dict(interval=5045, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
