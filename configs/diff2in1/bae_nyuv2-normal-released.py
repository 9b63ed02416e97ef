"""bae_nyuv2-normal as the code released with Diff-2-in-1 runs, not as its paper says (preset `released`).

What differs from ``bae_nyuv2-normal.py``: images squeezed to 512 × 512; features under noise at t = 0 from a sampled
posterior, so that they are drawn anew at every step; Adam at a constant 3.57e-4 without decay, clipping or
augmentation, batch 8, 50 epochs in each stage (4,950 and 9,900 steps); one synthetic image per real one (795) on the
released grid (50 calls from t = 589 for T = 600); θ_C's average once per 80 samples, which 10 iterations of 8 are.

Not rebuilt, as nobody can want them: an average that starts its count anew in every epoch (19 updates where 19.8 are
due), pseudo labels refined at 40 % of their pixels, pseudo labels on the border that has no ground truth, π = 3.14. Its
scores are of predictions in 8 bits, ours are not.

Expected score: not yet measured.
"""

_base_ = ['./bae_nyuv2-normal.py']

load = [dict(type='LoadImageFromFile'), dict(type='LoadDenseAnnotation', task=_base_.label_task)]
squeeze = dict(type='DenseResize', scale=(512, 512), keep_ratio=False)
pack = dict(type='PackDenseInputs')
test_dataset = dict(pipeline=[load[0], squeeze, load[1], pack])

data_preprocessor = dict(size=(512, 512))
model = dict(
    segmentor=dict(
        data_preprocessor=dict(size=(512, 512)), backbone=dict(feature=dict(_delete_=True, preset='released'))
    )
)
train_dataloader = dict(batch_size=8, dataset=dict(dataset=dict(pipeline=[*load, squeeze, pack])))
val_dataloader = dict(dataset=test_dataset)
test_dataloader = dict(dataset=test_dataset)
global_batch_size = 8
train_cfg = dict(max_iters=9900, val_interval=990)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=3.57e-4), clip_grad=None)
param_scheduler = None
custom_hooks = [
    dict(type='ExactResumeHook'),
    dict(type='SelfImprovingHook', alpha=0.998, samples_per_update=80),
]
default_hooks = dict(checkpoint=dict(interval=990))
stages = dict(
    warmup=dict(
        train_cfg=dict(max_iters=4950, val_interval=990),
        param_scheduler=None,
        default_hooks=dict(checkpoint=dict(interval=990)),
    ),
    synthesis=dict(grid='released', num_samples=795, size=[512, 512], restore_size=False),
)
