"""vpd_ade20k with batch 16 in the self-improving stage as well; ours, not the paper's.

As many samples as there (320,000, so as many updates of θ_C), in a quarter of the steps.

Expected score: not yet measured.
"""

_base_ = ['./vpd_ade20k.py']

global_batch_size = 16
train_cfg = dict(max_iters=20000, val_interval=2000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=20000),
]
default_hooks = dict(checkpoint=dict(interval=2000))
# The warm-up is that of vpd_ade20k, taken from there or made there.
stages = dict(
    warmup=dict(
        train_cfg=_base_.train_cfg, param_scheduler=_base_.param_scheduler, work_dir='work_dirs/vpd_ade20k/warmup'
    ),
)
