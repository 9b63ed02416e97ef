"""depth_scenes without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

Expected score, RMSE on test, seeds 0-2, one thread of a CPU (``projects/evidence/dense_scenes.py``): θ_C 0.502 ± 0.008
m, θ_E 0.511 ± 0.005.
"""

_base_ = ['../diff2in1/depth_scenes.py']

# Beside the run that it is compared with. To share its warm-up, which is the same:
# --cfg-options stages.warmup.work_dir=work_dirs/depth_scenes/warmup
work_dir = 'work_dirs/depth_scenes-baseline'
stages = dict(synthesis=None)
