"""Diff-2-in-1 on CamVid's real images, with a diffusion model trained from scratch on the training images alone.

    mmdiff2in1 pretrain --images data/camvid/images/train --out work_dirs/camvid_diffusion --size 96 128
    mmdiff2in1 train configs/diff2in1/vpd_camvid.py

A generator made from 250 images knows little: this config shows that the chain runs on real images, not what the
method can do with a pretrained one. ``model.segmentor.backbone.diffusion`` and ``stages.synthesis.diffusion`` take
any folder in diffusers' layout, or one file of Stable Diffusion.

Expected score: over three seeds, with a lighter head, 64 × 96 pixels and a generator of 2,400 iterations that went on
from the built-in one, the loop makes no difference with these settings (``docs/evidence/loop.md``). This config itself
is not yet measured over seeds; seed 0, two CPU cores, a generator of 300 + 300 iterations (which creates little more
than grey texture), test on ``val``: θ_C 21.77, θ_E 22.01 mIoU; the baseline 21.74 and 21.80 (``docs/results``).
"""

_base_ = [
    '../_base_/models/vpd_camvid.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/self_improving_camvid.py',
    '../_base_/default_runtime.py',
]
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='careful',
    diffusion=_base_.model.backbone.diffusion,
    caption_fallback='',
    num_calls=20,
    solver='dpm++',
    samples_per_image=1,
    size=96,
)
stages = dict(synthesis=dict(batch_size=10))
