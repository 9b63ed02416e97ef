"""self_improving_small in half the steps: 250 and 150."""

_base_ = ['./self_improving_small.py']

train_cfg = dict(max_iters=150, val_interval=150)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, end=150)]
stages = dict(
    warmup=dict(
        train_cfg=dict(max_iters=250, val_interval=250),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=25),
            dict(type='CosineAnnealingLR', eta_min_ratio=0.2, by_epoch=False, begin=25, end=250),
        ],
    ),
)
