"""iDisc's recipe for normals on NYUv2's 795 images: AdamW 3e-4, the backbone at a tenth of it, batch 16, clip 1.0.

Published are 45,000 steps on 30,912 frames, some 23 epochs: 1,160 steps here. The rate stays for 30 % of them and falls
along a cosine to a tenth; the first momentum goes 0.95 → 0.85 → 0.95 (SysCV/idisc: one cycle, div_factor 1,
final_div_factor 10).
"""

global_batch_size = 16
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1160, val_interval=290)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=3e-4, betas=(0.95, 0.999), weight_decay=0.02),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min_ratio=0.1, begin=347, end=1159, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, begin=0, end=347, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=347, end=1159, by_epoch=False),
]
