"""Diff-2-in-1 for depth on Scenes, scaled down to two CPU cores: 60 labels; ours, depth is not in the paper.

    mmdiff2in1 train configs/diff2in1/depth_scenes.py

The chain and the settings of ``vpd_scenes.py``; depth has no confidence, so no pixel is left out.

Expected score, RMSE on test, seeds 0-2, one thread of a CPU (``projects/evidence/dense_scenes.py``): 0.498 ± 0.006 m;
real + EMA 0.502 ± 0.008, real only 0.511 ± 0.005.
"""

_base_ = [
    '../_base_/models/depth_scenes.py',
    '../_base_/datasets/scenes_depth.py',
    '../_base_/schedules/self_improving_small.py',
    '../_base_/default_runtime.py',
]
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='careful',
    label_rule=None,  # of what θ_C is sure is not known here
    diffusion='builtin:scenes',
    captions='data/scenes/train/captions.jsonl',
    num_calls=20,
    solver='dpm++',
    samples_per_image=4,
    size=64,
)
stages = dict(synthesis=dict(batch_size=20))
