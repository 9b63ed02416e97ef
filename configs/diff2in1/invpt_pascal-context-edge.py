"""Diff-2-in-1 on PASCAL-Context with InvPT and edges. Ours: the paper leaves edges out.

Else as ``invpt_pascal-context.py``.

Expected score: not yet measured.
"""

_base_ = ['../baselines/invpt_pascal-context-edge.py']
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
