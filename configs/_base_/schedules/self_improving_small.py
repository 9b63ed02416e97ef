"""Warm-up and self-improving in minutes: 500 and 300 steps on frozen features, AdamW, cosine.

The self-improving stage stands at the top level, the warm-up under ``stages.warmup``.
"""

train_cfg = dict(type='IterBasedTrainLoop', max_iters=300, val_interval=150)
val_cfg = dict(type='SelfImprovingValLoop')
test_cfg = dict(type='SelfImprovingTestLoop', exploiter=True)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ExploiterOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=1e-3),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, end=300)]
custom_hooks = [
    dict(type='ExactResumeHook'),
    # 5 % of the warm-up's weights are left in θ_C at the end; the paper has alpha=0.998 instead.
    dict(type='SelfImprovingHook', remaining=0.05, samples_per_update=40),
]
stages = dict(
    warmup=dict(
        train_cfg=dict(max_iters=500, val_interval=250),
        optim_wrapper=dict(optimizer=dict(lr=6e-3)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=50),
            dict(type='CosineAnnealingLR', eta_min_ratio=0.2, by_epoch=False, begin=50, end=500),
        ],
        carry_optimizer=True,
    ),
)
