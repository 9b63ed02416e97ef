"""Diff-2-in-1 on NYUv2's surface normals with iDisc's head: the paper's second model for this experiment.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    python tools/train.py configs/diff2in1/idisc_nyuv2-normal.py

795 labelled images, 500 synthetic ones; preparation and synthesis as in ``bae_nyuv2-normal.py``, whose synthetic images
serve as well (``train_dataloader.dataset.store=work_dirs/bae_nyuv2-normal/synthetic``). Warm-up with batch 16 and
iDisc's recipe; self-improving stage with the paper's batch of 4 for as many samples as some 23 epochs of 1,295 images
are (7,540 steps). How the paper attaches iDisc to diffusion features was not found: here its head reads one map per
decoder level.

Expected score: not yet measured.
"""

_base_ = ['../baselines/idisc_nyuv2-normal-sd.py']

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
global_batch_size = 4
train_cfg = dict(max_iters=7540, val_interval=1885)
val_cfg = dict(_delete_=True, type='SelfImprovingValLoop')
test_cfg = dict(_delete_=True, type='SelfImprovingTestLoop', exploiter=True)
optim_wrapper = dict(constructor='ExploiterOptimWrapperConstructor', base_constructor='GroupedOptimWrapperConstructor')
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min_ratio=0.1, begin=2261, end=7539, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, begin=0, end=2261, by_epoch=False),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, begin=2261, end=7539, by_epoch=False),
]
custom_hooks = [
    dict(type='ExactResumeHook'),
    dict(type='SelfImprovingHook', alpha=0.998, samples_per_update=40),
]
default_hooks = dict(checkpoint=dict(interval=1885))
stages = dict(
    warmup=dict(
        global_batch_size=16,
        train_cfg=_base_.train_cfg,
        param_scheduler=_base_.param_scheduler,
        default_hooks=_base_.default_hooks,
    ),
    synthesis=dict(
        diffusion=_base_.model.backbone.diffusion,
        captions='data/nyuv2/captions.jsonl',
        T=600,
        num_calls=50,
        grid='even',
        solver='ddim',
        guidance_scale=1.0,
        num_samples=500,
        # 480 is no multiple of 64: created at 512 × 640, then brought back to the size of its source.
        size=480,
        restore_size=True,
        batch_size=16,
        dtype='bfloat16',
        seed=0,
    ),
)
