"""bae_scenes-normal without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

Expected score, mean angular error on test, seeds 0-2, one thread of a CPU (``projects/evidence/dense_scenes.py``): θ_C
10.44 ± 0.21 degrees, θ_E 10.46 ± 0.19.
"""

_base_ = ['../diff2in1/bae_scenes-normal.py']

# Beside the run that it is compared with. To share its warm-up, which is the same:
# --cfg-options stages.warmup.work_dir=work_dirs/bae_scenes-normal/warmup
work_dir = 'work_dirs/bae_scenes-normal-baseline'
stages = dict(synthesis=None)
