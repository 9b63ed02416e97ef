"""Diff-2-in-1 on NYUv2's surface normals with iDisc's head: the paper's second model for this experiment.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 train configs/diff2in1/idisc_nyuv2-normal.py

795 labelled images, 500 synthetic ones; preparation and synthesis as in ``bae_nyuv2-normal.py``, whose synthetic images
serve as well (``train_dataloader.dataset.store=work_dirs/bae_nyuv2-normal/synthetic``). Warm-up with batch 16 and
iDisc's recipe; self-improving stage with the paper's batch of 4 for as many samples as some 23 epochs of 1,295 images
are (7,540 steps). How the paper attaches iDisc to diffusion features was not found: here its head reads one map per
decoder level.

Expected score: not yet measured.
"""

_base_ = ['../baselines/idisc_nyuv2-normal-sd.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='paper',
    warmup=True,
    diffusion=_base_.model.backbone.diffusion,
    captions='data/nyuv2/captions.jsonl',
    num_samples=500,
    # 480 is no multiple of 64: created at 512 × 640, then brought back to the size of its source.
    size=480,
    restore_size=True,
)
global_batch_size = 4
train_cfg = dict(max_iters=7540, val_interval=1885)
param_scheduler = [  # the base's cycle, over other steps
    dict(each, begin=begin, end=end)
    for each, (begin, end) in zip(_base_.param_scheduler, [(2261, 7539), (0, 2261), (2261, 7539)], strict=True)
]
default_hooks = dict(checkpoint=dict(interval=1885))
stages = dict(warmup=dict(global_batch_size=16), synthesis=dict(batch_size=16, dtype='bfloat16'))
