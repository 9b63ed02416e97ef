"""bae_nyuv2-normal-sd as the code released with Diff-2-in-1 runs: the warm-up of its namesake in ``diff2in1/``.

Images squeezed to 512 × 512; features under noise at t = 0 from a sampled posterior, so that they are drawn anew at
every step; the released adapter (``ReleasedAdapter``); Adam at a constant 3.57e-4 without decay, clipping or
augmentation; batch 8, 50 epochs (4,950 steps). The authors' own files are tested with this config, after
``mmdiff2in1 convert released``. What is not rebuilt: docs/released.md.

Expected score: not yet measured.
"""

_base_ = ['./bae_nyuv2-normal-sd.py']

load = [dict(type='LoadImageFromFile'), dict(type='LoadDenseAnnotation', task=_base_.label_task)]
squeeze = dict(type='DenseResize', scale=(512, 512), keep_ratio=False)
pack = dict(type='PackDenseInputs')
data_preprocessor = dict(size=(512, 512))
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(feature=dict(_delete_=True, preset='released')),
    neck=dict(_delete_=True, type='ReleasedAdapter'),
)
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=[*load, squeeze, pack]))
val_dataloader = dict(dataset=dict(pipeline=[load[0], squeeze, load[1], pack]))
test_dataloader = val_dataloader
global_batch_size = 8
train_cfg = dict(max_iters=4950, val_interval=990)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=3.57e-4), clip_grad=None)
param_scheduler = None
default_hooks = dict(checkpoint=dict(interval=990))
