"""TaskPrompter on PASCAL-Context: classes, human parts, saliency and normals, ViT-L, the task set of the paper.

    mmdiff2in1 train configs/baselines/taskprompter_pascal-context.py --cfg-options model.backbone.pretrained=FILE

FILE as in ``taskprompter_nyud-mt.py``. Adam at 2e-5, 40,000 steps of 4 images. The published script asks for three
processes and lists two devices, so 6 images are as likely: ``global_batch_size=6``.

Expected score: not yet measured. With edges as a fifth task, TaskPrompter reports 80.89 and 68.89 mIoU, maxF 84.83 and
13.72°; its saliency is scored with a second sigmoid.
"""

_base_ = [
    '../_base_/models/taskprompter_vit-l_pascal-context.py',
    '../_base_/datasets/pascal-context.py',
    '../_base_/schedules/taskprompter_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
