"""vpd_scenes with a U-Net that learns: VPD's regime, one set of weights that perceives and creates, in miniature.

    mmdiff2in1 train configs/diff2in1/vpd_scenes-finetune.py

The U-Net (a tenth of the learning rate) is part of θ_C and θ_E and keeps its denoising loss on the real images, so it
is the one that creates the synthetic ones: ``stages.synthesis.unet='creator'``. A step takes much longer than with
a frozen U-Net. What the denoising loss costs and gains: ``docs/evidence/loop.md``.

Expected score, test mIoU after 300 steps of the warm-up, three seeds, two CPU cores: 58.14 ± 0.43, without the
denoising loss 58.45 ± 0.61 (``python projects/evidence/denoising.py``). The chain as a whole: not yet measured.
"""

_base_ = ['./vpd_scenes.py']

meta_keys = ('img_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip', 'flip_direction', 'caption')
pipeline = [
    *_base_.train_dataloader.dataset.dataset.pipeline[:-1],
    dict(type='LoadCaption', captions=_base_.stages.synthesis.captions),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
model = dict(
    segmentor=dict(
        type='DenoisingEncoderDecoder',
        denoising_weight=1.0,
        backbone=dict(regime='finetune', bf16=False, creation=True),
    )
)
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=pipeline)))
optim_wrapper = dict(
    base_constructor='GroupedOptimWrapperConstructor', paramwise_cfg=dict(custom_keys={'unet': dict(lr_mult=0.1)})
)
stages = dict(synthesis=dict(unet='creator'))
