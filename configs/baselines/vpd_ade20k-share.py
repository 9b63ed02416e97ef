"""VPD on a share of ADE20K's training images, in per cent: the same steps as on all of them.

    python tools/dataset_converters/make_splits.py data/ade/ADEChallengeData2016/images/training --percent 30
    SHARE=30 mmdiff2in1 train configs/baselines/vpd_ade20k-share.py

Without ``SHARE``, 10 % (2,021 images). Each share has a work dir of its own, ``work_dirs/vpd_ade20k-30pct`` for 30 %.

Expected score: not yet measured.
"""

_base_ = ['./vpd_ade20k.py']

train_dataloader = dict(dataset=dict(ann_file='splits/{{$SHARE:10}}pct-seed0.txt'))
work_dir = 'work_dirs/vpd_ade20k-{{$SHARE:10}}pct'
