"""TaskPrompter on NYUD-MT with edges, as published: classes, depth, normals and edges, ViT-L.

    mmdiff2in1 convert taskprompter FILE --out taskprompter_nyud-mt-edge.safetensors
    mmdiff2in1 test configs/baselines/taskprompter_nyud-mt-edge.py taskprompter_nyud-mt-edge.safetensors

Training as in ``taskprompter_nyud-mt.py``. The released weights are older than the line of their code that ignores the
depth of padding: they took it for 0 m.

Expected score: not yet measured. TaskPrompter reports 55.30 mIoU, 0.5152 m, 18.47° and odsF 78.20; its repository, of
the released weights, 55.90, 0.5062, 18.58 and 77.70.
"""

_base_ = [
    '../_base_/models/taskprompter_vit-l.py',
    '../_base_/datasets/nyud-mt-edge.py',
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
optim_wrapper = dict(optimizer=dict(lr=1e-5))
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
