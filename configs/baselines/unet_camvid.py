"""A small CNN from scratch on CamVid's real images, 60 labels: the data of `segformer_camvid`.

    mmdiff2in1 train configs/baselines/unet_camvid.py

Expected score, with 8 images a step and a moving average: 38.8 ± 0.3 mIoU on ``val`` over three seeds
(``docs/evidence.md``, one CPU thread, bfloat16).
"""

_base_ = [
    '../_base_/models/unet_small.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/scenes_1500.py',
    '../_base_/default_runtime.py',
]

crop_size = (64, 96)
_base_.train_dataloader.dataset.pipeline[3].crop_size = crop_size
train_dataloader = dict(batch_size=4, dataset=dict(num_labelled=60))
model = dict(
    data_preprocessor=dict(size=crop_size, seg_pad_val=11),
    decode_head=dict(ignore_index=11),
)
default_hooks = dict(checkpoint=dict(interval=500))
custom_hooks = [dict(type='ExactResumeHook'), dict(type='ChannelsLastHook')]
