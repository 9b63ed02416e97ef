"""bae_nyuv2-normal with images created at T = 200, for the ablation of T; the warm-up is that of T = 600.

Expected score: not yet measured.
"""

_base_ = ['./bae_nyuv2-normal.py']

stages = dict(warmup=dict(work_dir='work_dirs/bae_nyuv2-normal/warmup'), synthesis=dict(T=200))
