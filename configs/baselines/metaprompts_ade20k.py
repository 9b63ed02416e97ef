"""MetaPrompts on ADE20K as published, without Diff-2-in-1: the plain segmentor, and its twin's warm-up.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 check configs/baselines/metaprompts_ade20k.py
    torchrun --nproc-per-node 8 -m mmdiff2in1 train configs/baselines/metaprompts_ade20k.py
    mmdiff2in1 test configs/baselines/metaprompts_ade20k.py CHECKPOINT [--tta]

The published checkpoint is tested the same way, after ``mmdiff2in1 convert metaprompts``. The schedule is VPD's,
which the published configuration repeats but for the batch: 8 processes of one image. Three passes of the U-Net keep
three times as much for the backward pass: ``--cfg-options model.backbone.gradient_checkpointing=True`` for less.

Assumed: that the batch is 8, as README and configuration say together; that norms are treated as ``vpd_80k.py`` says.

Expected score: not yet measured here. MetaPrompts reports 55.83 mIoU, and 56.81 at seven scales and mirrored
(``--tta``); VPD 53.7 and 54.6.
"""

_base_ = [
    '../_base_/models/metaprompts_sd.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/vpd_80k.py',
]

global_batch_size = 8
scales = [
    dict(type='Resize', scale=(int(2048 * ratio), int(512 * ratio)), keep_ratio=True)
    for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
]
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(type='TestTimeAug', transforms=[scales, *_base_.tta_pipeline[1].transforms[1:]]),
]
default_hooks = dict(checkpoint=dict(interval=8000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
