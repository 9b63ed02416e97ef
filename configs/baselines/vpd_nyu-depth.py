"""VPD on NYUv2 depth as published, without Diff-2-in-1.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 check configs/baselines/vpd_nyu-depth.py
    torchrun --nproc-per-node 8 -m mmdiff2in1 train configs/baselines/vpd_nyu-depth.py
    mmdiff2in1 test configs/baselines/vpd_nyu-depth.py CHECKPOINT

The published checkpoint is tested the same way, after ``mmdiff2in1 convert vpd``. Scored as VPD does: windows of
480 × 480, mirrored too, Eigen's crop, the mean of each image's figures. The test set in mmseg's layout: ``--cfg-options
test_dataloader.dataset.layout=mmseg test_dataloader.dataset.data_root=data/nyu test_dataloader.dataset.ann_file=``.

Where it differs: colours change by mmseg's and our transforms in ranges like those of VPD's (which are
albumentations'), and the stripes of depth are grey, not the remainder of millimetres by 256.

Expected score: not yet measured here. VPD reports an RMSE of 0.254; others came to 0.264 with a batch of 2
(wl-zhao/VPD, issue 18), mmseg's port to 0.253.
"""

_base_ = [
    '../_base_/models/vpd_depth_sd.py',
    '../_base_/datasets/nyuv2_depth.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/vpd_depth_25e.py',
]

default_hooks = dict(checkpoint=dict(interval=5045, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
