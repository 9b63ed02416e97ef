"""Bae et al.'s decoder on diffusion features, NYUv2's 795 images: the warm-up of ``diff2in1/bae_nyuv2-normal.py``.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 train configs/baselines/bae_nyuv2-normal-sd.py

Expected score: not yet measured.
"""

_base_ = [
    '../_base_/models/bae_sd.py',
    '../_base_/datasets/nyuv2_normal.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/bae_5e.py',
]

default_hooks = dict(checkpoint=dict(interval=198, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
