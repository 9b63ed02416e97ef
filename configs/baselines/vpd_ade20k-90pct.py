"""VPD on 90 % of ADE20K's training images, 18,189: the same steps as on all of them.

    python tools/dataset_converters/make_splits.py data/ade/ADEChallengeData2016/images/training --percent 90

Expected score: not yet measured.
"""

_base_ = ['./vpd_ade20k.py']

train_dataloader = dict(dataset=dict(ann_file='splits/90pct-seed0.txt'))
