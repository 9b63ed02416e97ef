"""bae_nyuv2-normal without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same steps, same batch.

Goes on from the warm-up of ``diff2in1/bae_nyuv2-normal.py`` if that has run, and makes it there if not (not both at
once).

Expected score: not yet measured.
"""

_base_ = ['../diff2in1/bae_nyuv2-normal.py']

stages = dict(synthesis=None, warmup=dict(work_dir='work_dirs/bae_nyuv2-normal/warmup'))
