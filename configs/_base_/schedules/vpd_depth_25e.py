"""VPD's recipe for depth: AdamW 5e-4, the U-Net at a hundredth of it, batch 24, 25 epochs of 24,231 frames.

The rate rises from 3e-5 for half of the steps and falls back (in VPD both with a power of 0.9, here, as in mmseg, the
rise is linear); no weight decay on tensors of one dimension (wl-zhao/VPD, depth).
"""

global_batch_size = 24
train_cfg = dict(type='IterBasedTrainLoop', max_iters=25240, val_interval=2524)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.1),
    flat_decay=False,
    paramwise_cfg=dict(custom_keys={'unet': dict(lr_mult=0.01)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.06, begin=0, end=12620, by_epoch=False),
    dict(type='PolyLRRatio', power=0.9, eta_min_ratio=0.06, begin=12620, end=25240, by_epoch=False),
]
