"""iDisc on NYUv2's 795 images: Swin-L, no diffusion model.

    mmdiff2in1 train configs/baselines/idisc_nyuv2-normal.py --cfg-options model.backbone.pretrained=FOLDER
    mmdiff2in1 test configs/baselines/idisc_nyuv2-normal.py CHECKPOINT --show-dir pictures

The published checkpoint is tested the same way, after ``mmdiff2in1 convert idisc``; it was trained on 30,912
frames, not on these 795. iDisc's figures: its first threshold is 11.5 degrees, its RMSE a mean over images (its other
figures, the median too, are means over batches, which ours are not): ``test_evaluator.thresholds="(11.5,22.5,30)"
test_evaluator.per_image_rmse=True``. Its colour changes are replaced by those of Bae et al., which are of the same
kind.

Expected score: not yet measured. iDisc reports, of its own training set, 63.7 / 79.6 / 85.5 % below 11.5, 22.5 and 30
degrees, RMSE 22.9, mean 14.6, median 7.3.
"""

_base_ = [
    '../_base_/models/idisc_swin-l.py',
    '../_base_/datasets/nyuv2_normal.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/idisc_nyuv2.py',
]

default_hooks = dict(checkpoint=dict(interval=290, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
