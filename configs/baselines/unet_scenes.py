"""A small CNN from scratch on Scenes, 60 labels: a plain mmseg config without diffusion, without stages.

    mmdiff2in1 train configs/baselines/unet_scenes.py
    mmdiff2in1 train configs/baselines/unet_scenes.py --cfg-options train_dataloader.dataset.num_labelled=20

Expected score: ``docs/evidence.md``; with 16 images a step and a moving average, test mIoU 62.3 ± 1.0 (five seeds),
49.6 ± 1.7 with 20 labels (``projects/evidence/students.py``, one CPU thread).
"""

_base_ = [
    '../_base_/models/unet_small.py',
    '../_base_/datasets/scenes.py',
    '../_base_/schedules/scenes_1500.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=8)
default_hooks = dict(checkpoint=dict(interval=500))
custom_hooks = [dict(type='ExactResumeHook'), dict(type='ChannelsLastHook')]
