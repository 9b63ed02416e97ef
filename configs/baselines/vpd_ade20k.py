"""VPD on ADE20K as published, without Diff-2-in-1: the plain segmentor, and the warm-up of ``diff2in1/vpd_ade20k.py``.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 check configs/baselines/vpd_ade20k.py
    torchrun --nproc-per-node 8 -m mmdiff2in1 train configs/baselines/vpd_ade20k.py
    mmdiff2in1 test configs/baselines/vpd_ade20k.py CHECKPOINT [--tta]

The published checkpoint is tested the same way, after ``mmdiff2in1 convert vpd``. One GPU takes the whole batch
of 16. Less memory: ``--cfg-options model.backbone.gradient_checkpointing=True``, and bfloat16 by
``optim_wrapper.type=AmpOptimWrapper optim_wrapper.dtype=bfloat16`` (``docs/benchmarks``). A checkpoint takes 11 GB of
disk, that of the self-improving stage 15 GB, twice that while a new one is written.

Expected score: not yet measured here. VPD reports 53.7 mIoU, and 54.6 at several scales and mirrored (which scales, it
does not say; ``--tta`` has those that mmseg uses); reproductions of its recipe by others came to 53.1 (wl-zhao/VPD,
issues 32 and 43).
"""

_base_ = [
    '../_base_/models/vpd_sd.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/vpd_80k.py',
]

default_hooks = dict(checkpoint=dict(interval=8000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
