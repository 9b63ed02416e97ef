"""vpd_camvid without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

Expected score: see ``configs/diff2in1/vpd_camvid.py``.
"""

_base_ = ['../diff2in1/vpd_camvid.py']

# Beside the run that it is compared with. To share its warm-up, which is the same:
# --cfg-options stages.warmup.work_dir=work_dirs/vpd_camvid/warmup
work_dir = 'work_dirs/vpd_camvid-baseline'
stages = dict(synthesis=None)
