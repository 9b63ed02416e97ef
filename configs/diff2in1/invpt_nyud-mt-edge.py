"""Diff-2-in-1 on NYUD-MT with InvPT and edges. Ours: the paper leaves edges out; else as ``invpt_nyud-mt.py``.

Expected score: not yet measured.
"""

_base_ = ['../baselines/invpt_nyud-mt-edge.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='paper',
    warmup=True,
    diffusion='{{$SD_WEIGHTS:weights/stable-diffusion-v1-5}}',
    captions='data/NYUDv2/captions.jsonl',
    num_samples=500,
    size=[448, 576],
    restore_size=True,
)
global_batch_size = 1
stages = dict(warmup=dict(global_batch_size=6), synthesis=dict(batch_size=16, dtype='bfloat16'))
