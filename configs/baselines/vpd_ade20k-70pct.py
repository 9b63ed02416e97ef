"""VPD on 70 % of ADE20K's training images, 14,147: the same steps as on all of them.

    python tools/dataset_converters/make_splits.py data/ade/ADEChallengeData2016/images/training --percent 70

Expected score: not yet measured.
"""

_base_ = ['./vpd_ade20k.py']

train_dataloader = dict(dataset=dict(ann_file='splits/70pct-seed0.txt'))
