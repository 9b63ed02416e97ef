"""VPD's recipe: AdamW 8e-5, the U-Net at a tenth of it, batch 16, 80,000 steps down to zero, 1,500 of warm-up.

Source: VPD's segmentation configuration (wl-zhao/VPD): no weight decay on norms, a tenth of the rate for the U-Net.
There two keys of one length, `unet` and `norm`, decided both by the name of a tensor, so that in fact the norms of the
U-Net's attention layers learned at the full rate, and norms whose names do not say so (residual layers, batch
normalisation of the head) had weight decay. Here every norm has none, and all of the U-Net has a tenth.
"""

global_batch_size = 16
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
slow = dict(lr_mult=0.1)
slow_norm = dict(lr_mult=0.1, decay_mult=0.0)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='GroupedOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=8e-5, weight_decay=1e-3),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        # The longest key that a name holds counts, and it alone: norms of the U-Net need keys longer than `unet`.
        custom_keys={'unet': slow}
        | {f'.{norm}.': slow_norm for norm in ('norm', 'norm1', 'norm2', 'norm3', 'conv_norm_out')},
    ),
)
# Both run from the first step and multiply, as in the mmcv of VPD's time.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=80000),
]
