"""VPD on ADE20K as published, without Diff-2-in-1: the plain segmentor, and the warm-up of ``diff2in1/vpd_ade20k.py``.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    python tools/check_dataset.py configs/baselines/vpd_ade20k.py
    torchrun --nproc-per-node 8 tools/train.py configs/baselines/vpd_ade20k.py
    python tools/test.py configs/baselines/vpd_ade20k.py CHECKPOINT [--tta]

The published checkpoint is tested the same way, after ``tools/model_converters/vpd.py``. One GPU takes the whole batch
of 16; where it does not fit: ``--cfg-options global_batch_size=4 optim_wrapper.accumulative_counts=4``, and
``model.backbone.gradient_checkpointing=True``. In bfloat16: ``optim_wrapper.type=AmpOptimWrapper
optim_wrapper.dtype=bfloat16``. A checkpoint takes 14 GB of disk (U-Net in float32 with the moments of AdamW).

Expected score: not yet measured here. VPD reports 53.7 mIoU (54.6 with --tta); reproductions of its recipe by others
came to 53.1 (wl-zhao/VPD, issues 32 and 43).
"""

_base_ = [
    '../_base_/models/vpd_sd.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/vpd_80k.py',
]

default_hooks = dict(checkpoint=dict(interval=8000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
