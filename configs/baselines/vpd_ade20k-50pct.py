"""VPD on 50 % of ADE20K's training images, 10,105: the same steps as on all of them.

    python tools/dataset_converters/make_splits.py data/ade/ADEChallengeData2016/images/training --percent 50

Expected score: not yet measured.
"""

_base_ = ['./vpd_ade20k.py']

train_dataloader = dict(dataset=dict(ann_file='splits/50pct-seed0.txt'))
