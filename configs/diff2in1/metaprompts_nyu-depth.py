"""Diff-2-in-1 on NYUv2 depth with MetaPrompts: ours, not in the paper.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 check configs/diff2in1/metaprompts_nyu-depth.py
    mmdiff2in1 caption configs/diff2in1/metaprompts_nyu-depth.py --by blip2 --captioner /path/to/blip2-opt-2.7b
    mmdiff2in1 train configs/diff2in1/metaprompts_nyu-depth.py

Warm-up: MetaPrompts' recipe (``baselines/metaprompts_nyu-depth.py``). Synthesis and self-improving are those of
``vpd_nyu-depth.py``: 5,000 images at T = 600, a tenth of the steps.

Expected score: not yet measured.
"""

_base_ = ['../baselines/metaprompts_nyu-depth.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='paper',
    warmup=True,
    diffusion=_base_.model.backbone.diffusion,
    captions='data/nyu_depth_v2/captions.jsonl',
    num_samples=5000,
    # 480 is no multiple of 64: created at 512 × 640, then brought back to the size of its source.
    size=480,
    restore_size=True,
)
train_cfg = dict(max_iters=2524, val_interval=1262)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.06, begin=0, end=252, by_epoch=False),
    dict(type='PolyLRRatio', power=0.9, eta_min_ratio=0.06, begin=252, end=2524, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=1262))
stages = dict(synthesis=dict(batch_size=16, dtype='bfloat16'))
