"""TaskPrompter on PASCAL-Context with edges and ViT-B, as published: wide features on a narrow backbone.

Use as ``taskprompter_pascal-context-edge.py``; ``pretrained`` is AugReg's ViT-B/16.

Expected score: not yet measured. The repository of TaskPrompter reports, of the released weights, 78.63 and 66.93 mIoU,
maxF 84.77 (scored with a second sigmoid), 13.42° and odsF 73.60.
"""

_base_ = [
    '../_base_/models/taskprompter_vit-b.py',
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
