"""TaskPrompter on PASCAL-Context with edges, as published: five tasks, ViT-L.

    mmdiff2in1 convert taskprompter FILE --out taskprompter_pascal.safetensors
    mmdiff2in1 test configs/baselines/taskprompter_pascal-context-edge.py taskprompter_pascal.safetensors

Training as in ``taskprompter_pascal-context.py``.

Expected score: not yet measured. TaskPrompter reports 80.89 and 68.89 mIoU, maxF 84.83 (scored with a second sigmoid),
13.72° and odsF 73.50; its repository, of the released weights, 80.79, 68.81, 84.26, 13.58 and 73.80.
"""

_base_ = [
    '../_base_/models/taskprompter_vit-l_pascal-context.py',
    '../_base_/datasets/pascal-context-edge.py',
    '../_base_/schedules/taskprompter_40k.py',
    '../_base_/default_runtime.py',
]

edge = dict(edge=dict(type='Edges'))
model = dict(
    task=edge,
    backbone=dict(tasks=edge),
    decode_head=dict(tasks=edge),
    data_preprocessor=_base_.data_preprocessor,
)
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
