"""vpd_ade20k without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same steps, same batch.

Goes on from the warm-up of ``diff2in1/vpd_ade20k.py`` if that has run, and makes it there if not (not both at once;
``stages.warmup.work_dir`` names another place). For a share of the labels: ``--cfg-options
train_dataloader.dataset.dataset.ann_file=splits/10pct-seed0.txt
stages.warmup.work_dir=work_dirs/vpd_ade20k-10pct/warmup``.

Expected score: not yet measured.
"""

_base_ = ['../diff2in1/vpd_ade20k.py']

stages = dict(synthesis=None, warmup=dict(work_dir='work_dirs/vpd_ade20k/warmup'))
