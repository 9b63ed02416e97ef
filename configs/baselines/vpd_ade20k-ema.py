"""vpd_ade20k without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same steps, same batch.

Goes on from the warm-up of ``diff2in1/vpd_ade20k.py`` if that has run, and makes it there if not.

Expected score: not yet measured.
"""

_base_ = ['../diff2in1/vpd_ade20k.py']

stages = dict(synthesis=None, warmup=dict(work_dir='work_dirs/vpd_ade20k/warmup'))
