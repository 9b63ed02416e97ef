"""vpd_ade20k on a share of the training images, in per cent, and one synthetic image for each of them.

    python tools/dataset_converters/make_splits.py data/ade/ADEChallengeData2016/images/training --percent 30
    SHARE=30 mmdiff2in1 train configs/diff2in1/vpd_ade20k-share.py

Without ``SHARE``, 10 % (2,021 images). Each share has a work dir of its own, ``work_dirs/vpd_ade20k-30pct`` for 30 %.
The fair comparison, with as many steps, is ``baselines/vpd_ade20k-ema.py`` on the same split.

Expected score: not yet measured.
"""

_base_ = ['./vpd_ade20k.py']

train_dataloader = dict(dataset=dict(dataset=dict(ann_file='splits/{{$SHARE:10}}pct-seed0.txt')))
work_dir = 'work_dirs/vpd_ade20k-{{$SHARE:10}}pct'
