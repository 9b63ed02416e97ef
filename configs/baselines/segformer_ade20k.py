"""SegFormer (MiT-B0) on ADE20K as mmseg has it: an ordinary segmentor, which knows nothing of diffusion.

    export MIT_WEIGHTS=/path/to/mit_b0_20220624-7e0fe6dd.pth
    torchrun --nproc-per-node 8 -m mmdiff2in1 train configs/baselines/segformer_ade20k.py

One GPU takes the whole batch of 16. On several, ``--cfg-options sync_bn=torch`` shares the statistics of the head's
normalisation, as published.

Expected score: not yet measured here. mmseg reports 37.41 mIoU (its model zoo).
"""

_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/segformer_160k.py',
]

default_hooks = dict(checkpoint=dict(interval=16000, max_keep_ckpts=1))
custom_hooks = [dict(type='ExactResumeHook')]
