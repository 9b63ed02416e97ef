"""InvPT on PASCAL-Context with edges, as published: five tasks, ViT-L.

    mmdiff2in1 convert invpt FILE --out invpt_pascal-context-edge.safetensors
    mmdiff2in1 test configs/baselines/invpt_pascal-context-edge.py invpt_pascal-context-edge.safetensors

Training as in ``invpt_pascal-context.py``.

Expected score: not yet measured. InvPT reports 79.03 and 67.61 mIoU, maxF 84.81 (scored with a second sigmoid), 14.15°
and odsF 73.00; its repository, of the released weights, 79.91, 68.54, 84.38, 13.90 and 72.90.
"""

_base_ = [
    '../_base_/models/invpt_vit-l_pascal-context.py',
    '../_base_/datasets/pascal-context-edge.py',
    '../_base_/schedules/invpt_40k.py',
    '../_base_/default_runtime.py',
]

edge = dict(edge=dict(type='Edges'))
model = dict(task=edge, decode_head=dict(tasks=edge), data_preprocessor=_base_.data_preprocessor)
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
