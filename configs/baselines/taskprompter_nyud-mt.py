"""TaskPrompter on NYUD-MT: classes, depth and normals of 795 images, ViT-L, the task set of the paper.

    mmdiff2in1 train configs/baselines/taskprompter_nyud-mt.py --cfg-options model.backbone.pretrained=FILE

FILE is AugReg's ViT-L/16 (``.npz``) or timm's file of it; without one the backbone starts from random weights. Adam at
1e-5, 40,000 steps of 4 images: published as 2 GPUs with 2 images each. A checkpoint that was published, which knows
edges too, is cut to these tasks by ``mmdiff2in1 convert taskprompter --tasks``, to train on from.

Expected score: not yet measured. With edges as a fourth task, TaskPrompter reports 55.30 mIoU, 0.5152 m and 18.47°.
"""

_base_ = [
    '../_base_/models/taskprompter_vit-l.py',
    '../_base_/datasets/nyud-mt.py',
    '../_base_/schedules/taskprompter_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
optim_wrapper = dict(optimizer=dict(lr=1e-5))
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
