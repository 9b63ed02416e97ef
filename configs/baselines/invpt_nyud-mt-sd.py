"""InvPT's decoder on NYUD-MT, on frozen features of Stable Diffusion: ours, see ``_base_/models/invpt_sd.py``.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 train configs/baselines/invpt_nyud-mt-sd.py

The recipe is InvPT's. Expected score: not yet measured.
"""

_base_ = [
    '../_base_/models/invpt_sd.py',
    '../_base_/datasets/nyud-mt.py',
    '../_base_/schedules/invpt_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=dict(_base_.data_preprocessor, mean=[127.5] * 3, std=[127.5] * 3))
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
