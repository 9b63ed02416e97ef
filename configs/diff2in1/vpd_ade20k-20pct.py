"""vpd_ade20k on 20 % of the training images: 4,042 labelled ones, and one synthetic image for each.

    python tools/dataset_converters/make_splits.py data/ade/ADEChallengeData2016/images/training --percent 20

The fair comparison, with as many steps, is ``baselines/vpd_ade20k-ema.py`` on the same split.

Expected score: not yet measured.
"""

_base_ = ['./vpd_ade20k.py']

train_dataloader = dict(dataset=dict(dataset=dict(ann_file='splits/20pct-seed0.txt')))
