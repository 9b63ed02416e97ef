"""Plain heads side by side on PASCAL-Context: classes, human parts, saliency and normals, ViT-L.

    mmdiff2in1 train configs/baselines/mtl_pascal-context.py --cfg-options model.backbone.pretrained=FILE

Backbone, data, losses and recipe are those of ``invpt_pascal-context.py``; for each task an FCNHead of mmseg stands in
the place of InvPT's decoder (``_base_/models/mtl_vit-l.py``).

Expected score: not yet measured.
"""

_base_ = [
    '../_base_/models/mtl_vit-l_pascal-context.py',
    '../_base_/datasets/pascal-context.py',
    '../_base_/schedules/invpt_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
