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
    optimizer=dict(type='AdamW', lr=3.57e-4 / 25, betas=(0.95, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=0.1),
)
# One cycle of cosines, from a twenty-fifth of the highest rate up to it and down to 1 / 250,000 of it. mmengine's
# OneCycleLR keeps its rate where it was when a run is resumed (0.10.12).
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min_ratio=25, begin=0, end=296, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-4, begin=296, end=989, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, begin=0, end=296, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=296, end=989, by_epoch=False),
]
