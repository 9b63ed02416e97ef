"""The perceiver that is compared with the small CNN (unet_scenes.py): same data, steps, batch and schedule.

    mmdiff2in1 train configs/baselines/vpd_scenes-ushaped.py
    mmdiff2in1 train configs/baselines/vpd_scenes-ushaped.py --cfg-options train_dataloader.dataset.num_labelled=20

Frozen features of the built-in U-Net, a detail path, a U-shaped decoder. Expected score: with 8 images a step 59.2 mIoU
on val, as the small CNN (one seed, earlier built-in weights, ``docs/evidence.md``); with 600 labels, 16 images a step
and 3,000 steps 74.5 on test (``builtin:scenes``, ``docs/model_zoo.md``).
"""

_base_ = [
    '../_base_/models/vpd_scenes-ushaped.py',
    '../_base_/datasets/scenes.py',
    '../_base_/schedules/scenes_1500.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=8)
default_hooks = dict(checkpoint=dict(interval=500))
custom_hooks = [dict(type='ExactResumeHook'), dict(type='ChannelsLastHook')]
