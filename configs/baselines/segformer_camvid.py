"""SegFormer (MiT-B0) on CamVid's real images, 60 labels, from random weights, at a size that a CPU can train.

    mmdiff2in1 train configs/baselines/segformer_camvid.py

Images of 96 × 128, crops of 64 × 96, scored on ``val`` at the images' own 360 × 480 (this copy of CamVid has no test
part). With ImageNet's weights: ``model.backbone.init_cfg.type=Pretrained``, and ``init_cfg.checkpoint`` names mmseg's
``mit_b0_20220624-7e0fe6dd.pth``; with those of a whole segmentor: ``load_from``.

Expected score: mIoU on ``val`` 23.3 ± 0.6, 26.6 ± 2.0 with 8 images a step and a moving average (three seeds, one CPU
thread, ``docs/evidence.md``); poles, signs, fences, pedestrians and cyclists are found nowhere.
"""

_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/scratch_400.py',
    '../_base_/default_runtime.py',
]

crop_size = (64, 96)
_base_.model.backbone.pop('init_cfg')
_base_.train_dataloader.dataset.pipeline[3].crop_size = crop_size
train_dataloader = dict(batch_size=4, dataset=dict(num_labelled=60))
model = dict(
    data_preprocessor=dict(size=crop_size, seg_pad_val=11),
    decode_head=dict(num_classes=11, ignore_index=11),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
default_hooks = dict(checkpoint=dict(interval=100))
custom_hooks = [dict(type='ExactResumeHook'), dict(type='ChannelsLastHook')]
