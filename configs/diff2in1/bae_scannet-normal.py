"""Diff-2-in-1 trained on ScanNet and tested on NYUv2: the paper's experiment across domains.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 caption configs/diff2in1/bae_scannet-normal.py --by blip2 --captioner /path/to/blip2-opt-2.7b
    mmdiff2in1 train configs/diff2in1/bae_scannet-normal.py

Data and warm-up: ``baselines/bae_scannet-normal.py``. Number of synthetic images (10,000 here) and length of the
self-improving stage (a fifth of the warm-up's) were not found in the paper's sources.

Expected score: not yet measured.
"""

_base_ = ['../baselines/bae_scannet-normal.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='paper',
    warmup=True,
    diffusion=_base_.model.backbone.diffusion,
    captions='data/scannet/captions.jsonl',
    num_samples=10000,
    # 480 is no multiple of 64: created at 512 × 640, then brought back to the size of its source.
    size=480,
    restore_size=True,
)
train_cfg = dict(max_iters=50000, val_interval=10000)
param_scheduler = [  # the base's cycle, over other steps
    dict(each, begin=begin, end=end)
    for each, (begin, end) in zip(_base_.param_scheduler, 2 * [(0, 14999), (14999, 49999)], strict=True)
]
default_hooks = dict(checkpoint=dict(interval=10000))
stages = dict(synthesis=dict(batch_size=16, dtype='bfloat16'))
