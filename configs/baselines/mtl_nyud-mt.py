"""Plain heads side by side on NYUD-MT: classes, depth and normals of 795 images, ViT-L; what InvPT is compared with.

    mmdiff2in1 train configs/baselines/mtl_nyud-mt.py --cfg-options model.backbone.pretrained=FILE

Backbone, data, losses and recipe are those of ``invpt_nyud-mt.py``; for each task an FCNHead of mmseg stands in
the place of InvPT's decoder (``_base_/models/mtl_vit-l.py``).

Expected score: not yet measured.
"""

_base_ = [
    '../_base_/models/mtl_vit-l.py',
    '../_base_/datasets/nyud-mt.py',
    '../_base_/schedules/invpt_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
