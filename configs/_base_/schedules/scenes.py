"""Head training on frozen features: AdamW, cosine."""

train_cfg = dict(type='IterBasedTrainLoop', max_iters=600, val_interval=200)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=6e-3, weight_decay=1e-3), clip_grad=dict(max_norm=1.0)
)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=600, eta_min_ratio=0.01, by_epoch=False)]
