"""bae_nyuv2-normal as the code released with Diff-2-in-1 runs, not as its paper says (preset `released`).

What differs from ``bae_nyuv2-normal.py``: images squeezed to 512 × 512; features under noise at t = 0 from a sampled
posterior, drawn anew at every step, for θ_C and θ_E apart; the released adapter (``ReleasedAdapter``); Adam at a
constant 3.57e-4 without decay, clipping or augmentation, batch 8, 50 epochs in each stage (4,950 and 9,900 steps); one
synthetic image per real one (795) on the released grid (50 calls from t = 589 for T = 600); θ_C's average once per 80
samples, which 10 iterations of 8 are.

The authors' own files fit in after ``mmdiff2in1 convert released``. What is not rebuilt: docs/released.md.

Expected score: not yet measured.
"""

_base_ = ['../baselines/bae_nyuv2-normal-released.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='released',
    warmup=True,
    diffusion=_base_.model.backbone.diffusion,
    captions='data/nyuv2/captions.jsonl',
    num_samples=795,
    size=[512, 512],
)
train_cfg = dict(max_iters=9900)
stages = dict(synthesis=dict(batch_size=16, dtype='bfloat16'))
