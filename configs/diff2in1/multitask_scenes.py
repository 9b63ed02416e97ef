"""Five tasks at once, embedded, one model, one store of created images: classes, depth, normals, saliency, edges.

    mmdiff2in1 train configs/diff2in1/multitask_scenes.py

Settings as in ``vpd_scenes.py``; of the classes θ_C teaches where it is sure, of depth and normals, which have no
confidence here, everywhere. ``kept_share/<task>`` in the log says how much that is.

Expected score: ``docs/evidence.md``, "Five tasks at once".
"""

_base_ = [
    '../_base_/models/multitask_scenes.py',
    '../_base_/datasets/scenes_multitask.py',
    '../_base_/schedules/self_improving_small.py',
    '../_base_/default_runtime.py',
]
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='careful',
    diffusion='builtin:scenes',
    captions='data/scenes/train/captions.jsonl',
    num_calls=20,
    solver='dpm++',
    samples_per_image=4,
    size=64,
)
stages = dict(synthesis=dict(batch_size=20))
