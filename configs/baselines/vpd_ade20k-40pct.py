"""VPD on 40 % of ADE20K's training images, 8,084: the same steps as on all of them.

    python tools/dataset_converters/make_splits.py data/ade/ADEChallengeData2016/images/training --percent 40

Expected score: not yet measured.
"""

_base_ = ['./vpd_ade20k.py']

train_dataloader = dict(dataset=dict(ann_file='splits/40pct-seed0.txt'))
