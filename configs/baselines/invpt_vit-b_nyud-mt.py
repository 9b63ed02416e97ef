"""InvPT on NYUD-MT with ViT-B, which was never released: ours. Else as in ``invpt_nyud-mt.py``.

Expected score: not yet measured.
"""

_base_ = [
    '../_base_/models/invpt_vit-b.py',
    '../_base_/datasets/nyud-mt.py',
    '../_base_/schedules/invpt_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
default_hooks = dict(checkpoint=dict(interval=1000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
