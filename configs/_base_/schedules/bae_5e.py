"""Bae et al.'s recipe on NYUv2's 795 images: AdamW, one cycle up to 3.57e-4, batch 4, 5 epochs (990 steps), clip 0.1.

Their code asks for a tenth of the rate in the encoder and then hands the scheduler one maximum for all parameters,
which undoes it: encoder and decoder learn at one rate, here as there. The first momentum goes 0.95 → 0.85 → 0.95
against the rate, PyTorch's default. Published in mixed precision: ``--cfg-options optim_wrapper.type=AmpOptimWrapper``.
"""

global_batch_size = 4
train_cfg = dict(type='IterBasedTrainLoop', max_iters=990, val_interval=198)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=3.57e-4, betas=(0.95, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = [
    dict(type='OneCycleLR', eta_max=3.57e-4, total_steps=990, pct_start=0.3, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, begin=0, end=296, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=296, end=989, by_epoch=False),
]
