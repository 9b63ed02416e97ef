"""InvPT on NYUD-MT: classes, depth and normals of 795 images, ViT-L, the task set of the paper.

    mmdiff2in1 train configs/baselines/invpt_nyud-mt.py --cfg-options model.backbone.pretrained=FILE

FILE is AugReg's ViT-L/16 (``.npz``) or timm's file of it; without one the backbone starts from random weights. A
checkpoint that was published, which knows edges too, is cut to these tasks by ``mmdiff2in1 convert invpt
--tasks``, to train on from.

Expected score: not yet measured. With edges as a fourth task, InvPT reports 53.56 mIoU, 0.5183 m and 19.04°.
"""

_base_ = [
    '../_base_/models/invpt_vit-l.py',
    '../_base_/datasets/nyud-mt.py',
    '../_base_/schedules/invpt_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
