"""Diff-2-in-1 trained on ScanNet and tested on NYUv2: the paper's experiment across domains.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    python tools/caption.py configs/diff2in1/bae_scannet-normal.py --by blip2 --model /path/to/blip2-opt-2.7b
    python tools/train.py configs/diff2in1/bae_scannet-normal.py

Data and warm-up: ``baselines/bae_scannet-normal.py``. Number of synthetic images (10,000 here) and length of the
self-improving stage (a fifth of the warm-up's) were not found in the paper's sources.

Expected score: not yet measured.
"""

_base_ = ['../baselines/bae_scannet-normal.py']

model = dict(_delete_=True, type='SelfImprovingSegmentor', segmentor=_base_.model)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='SyntheticSampleDataset',
        dataset=_base_.train_dataloader.dataset,
        store=None,  # set by the stage chain: <work_dir>/synthetic
        mix='uniform',
    ),
)
train_cfg = dict(max_iters=50000, val_interval=10000)
val_cfg = dict(_delete_=True, type='SelfImprovingValLoop')
test_cfg = dict(_delete_=True, type='SelfImprovingTestLoop', exploiter=True)
optim_wrapper = dict(constructor='ExploiterOptimWrapperConstructor', base_constructor='GroupedOptimWrapperConstructor')
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min_ratio=25, begin=0, end=14999, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min_ratio=1e-4, begin=14999, end=49999, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, begin=0, end=14999, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=14999, end=49999, by_epoch=False),
]
custom_hooks = [
    dict(type='ExactResumeHook'),
    dict(type='SelfImprovingHook', alpha=0.998, samples_per_update=40),
]
default_hooks = dict(checkpoint=dict(interval=10000))
stages = dict(
    warmup=dict(
        train_cfg=_base_.train_cfg,
        param_scheduler=_base_.param_scheduler,
        default_hooks=_base_.default_hooks,
    ),
    synthesis=dict(
        diffusion=_base_.model.backbone.diffusion,
        captions='data/scannet/captions.jsonl',
        T=600,
        num_calls=50,
        grid='even',
        solver='ddim',
        guidance_scale=1.0,
        num_samples=10000,
        # 480 is no multiple of 64: created at 512 × 640, then brought back to the size of its source.
        size=480,
        restore_size=True,
        batch_size=16,
        dtype='bfloat16',
        seed=0,
    ),
)
