"""Diff-2-in-1 for surface normals on Scenes, scaled down to two CPU cores: Bae et al.'s decoder, 60 labels.

    mmdiff2in1 train configs/diff2in1/bae_scenes-normal.py

The embedded twin of ``bae_nyuv2-normal.py``; chain and settings as in ``vpd_scenes.py``, but for its confidence filter,
which does harm here (``docs/evidence/loop.md``).

Expected score, mean angular error on test, seeds 0-2, one thread of a CPU (``projects/evidence/dense_scenes.py``):
10.59 ± 0.30 degrees; real + EMA 10.44 ± 0.21, real only 10.46 ± 0.19. Real and synthetic pixels have a mean each here
(preset `careful`); the published mean over both (``normalize_by='pooled'``): one seed, ``docs/evidence/loop.md``.
"""

_base_ = [
    '../_base_/models/bae_scenes.py',
    '../_base_/datasets/scenes_normal.py',
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
