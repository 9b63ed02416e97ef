"""Diff-2-in-1 on PASCAL-Context with InvPT: one model, one store, θ_C labels all tasks of a created image.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 caption configs/diff2in1/invpt_pascal-context.py --by blip2 --captioner /path/to/blip2-opt-2.7b
    mmdiff2in1 train configs/diff2in1/invpt_pascal-context.py

As ``invpt_nyud-mt.py``, with one created image for each of the 4,998 and α = 0.999.

Expected score: not yet measured.
"""

_base_ = ['../baselines/invpt_pascal-context.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='paper',
    warmup=True,
    alpha=0.999,
    diffusion='{{$SD_WEIGHTS:weights/stable-diffusion-v1-5}}',
    captions='data/PASCALContext/captions.jsonl',
    samples_per_image=1,
    size=512,
    restore_size=True,
)
global_batch_size = 1
stages = dict(warmup=dict(global_batch_size=6), synthesis=dict(batch_size=16, dtype='bfloat16'))
