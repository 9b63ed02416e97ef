"""InvPT on PASCAL-Context: classes, human parts, saliency and normals, ViT-L, the task set of the paper.

    mmdiff2in1 train configs/baselines/invpt_pascal-context.py --cfg-options model.backbone.pretrained=FILE

FILE as in ``invpt_nyud-mt.py``.

Expected score: not yet measured. With edges as a fifth task, InvPT reports 79.03 and 67.61 mIoU, maxF 84.81 and 14.15°;
its saliency is scored with a second sigmoid.
"""

_base_ = [
    '../_base_/models/invpt_vit-l_pascal-context.py',
    '../_base_/datasets/pascal-context.py',
    '../_base_/schedules/invpt_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
