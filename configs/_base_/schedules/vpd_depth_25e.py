"""VPD's recipe for depth: AdamW 5e-4, the U-Net at a hundredth of it, batch 24, 25 epochs of 24,231 frames.

An epoch is 1,009 steps, as the eight processes of VPD count them. The rate rises from 3e-5 for 12 epochs, falls back
for 12, both ways with a power of 0.9, and stays for the last one; no weight decay on tensors of one dimension
(wl-zhao/VPD, depth).
"""

global_batch_size = 24
train_cfg = dict(type='IterBasedTrainLoop', max_iters=25225, val_interval=5045)
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
    dict(type='PowerLR', power=0.9, start_ratio=0.06, end_ratio=1.0, begin=0, end=12108, by_epoch=False),
    dict(type='PowerLR', power=0.9, start_ratio=1.0, end_ratio=0.06, begin=12108, end=24216, by_epoch=False),
]
