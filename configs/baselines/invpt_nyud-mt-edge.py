"""InvPT on NYUD-MT with edges, as published: classes, depth, normals and edges, ViT-L.

    mmdiff2in1 convert invpt FILE --out invpt_nyud-mt-edge.safetensors
    mmdiff2in1 test configs/baselines/invpt_nyud-mt-edge.py invpt_nyud-mt-edge.safetensors

Training as in ``invpt_nyud-mt.py``.

Expected score: not yet measured. InvPT reports 53.56 mIoU, 0.5183 m, 19.04° and odsF 78.10; its repository, of the
released weights, 53.65, 0.5083, 18.68 and 77.80, of which a user got 76.8 for the edges.
"""

_base_ = [
    '../_base_/models/invpt_vit-l.py',
    '../_base_/datasets/nyud-mt-edge.py',
    '../_base_/schedules/invpt_40k.py',
    '../_base_/default_runtime.py',
]

edge = dict(edge=dict(type='Edges'))
model = dict(task=edge, decode_head=dict(tasks=edge), data_preprocessor=_base_.data_preprocessor)
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
