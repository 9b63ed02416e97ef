"""Diff-2-in-1 on Scenes, scaled down to two CPU cores: VPD features of the built-in diffusion model, 60 labelled images.

    python tools/train.py configs/diff2in1/vpd_scenes.py

Warm-up (real images), synthesis (4 images per labelled one at T = 600), self-improving: every step sees 12 real images as
the baseline does, and 12 synthetic ones in addition. Where it differs from the paper: α follows from the number of
updates (0.998 would leave θ_C near the warm-up in so short a run), the synthetic loss has weight 0.3, and pixels of
which θ_C is less sure than 0.9 are ignored.

Expected score: not yet measured over seeds; ``make demo`` prints one seed.
"""

_base_ = [
    '../_base_/models/vpd_scenes.py',
    '../_base_/datasets/scenes.py',
    '../_base_/schedules/scenes.py',
    '../_base_/default_runtime.py',
]

# Self-improving stage: 400 steps of 12 + 12 samples, an update per 40 samples: 240 updates.
max_iters = 400

model = dict(
    _delete_=True,
    type='SelfImprovingSegmentor',
    segmentor=_base_.model,
    normalize_by='real',
    synthetic_weight=0.3,
    min_confidence=0.9,
)
train_dataloader = dict(
    batch_sampler=dict(type='MixedBatchSampler'),
    dataset=dict(
        _delete_=True,
        type='SyntheticSampleDataset',
        dataset=_base_.train_dataloader.dataset,
        store=None,  # set by the stage chain: <work_dir>/synthetic
        mix=dict(added=12),
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=200)
val_cfg = dict(_delete_=True, type='SelfImprovingValLoop')
test_cfg = dict(_delete_=True, type='SelfImprovingTestLoop', exploiter=True)
optim_wrapper = dict(constructor='ExploiterOptimWrapperConstructor', optimizer=dict(lr=3e-3))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_iters, eta_min_ratio=0.01, by_epoch=False)]
custom_hooks = [
    dict(type='ExactResumeHook'),
    # 5 % of the warm-up's weights are left in θ_C at the end.
    dict(type='SelfImprovingHook', remaining=0.05, samples_per_update=40),
]
stages = dict(
    warmup=dict(
        train_cfg=dict(max_iters=600, val_interval=300),
        optim_wrapper=dict(optimizer=dict(lr=6e-3)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, end=50, by_epoch=False),
            dict(type='CosineAnnealingLR', T_max=550, begin=50, end=600, eta_min_ratio=0.2, by_epoch=False),
        ],
        carry_optimizer=True,
    ),
    synthesis=dict(
        diffusion='builtin:scenes',
        captions='data/scenes/train/captions.jsonl',
        T=600,
        num_calls=20,
        grid='even',
        solver='dpm++',
        guidance_scale=1.0,
        samples_per_image=4,
        size=64,
        batch_size=20,
        seed=0,
    ),
)
