"""multitask_scenes without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

Expected score: ``docs/evidence.md``, "Five tasks at once".
"""

_base_ = ['../diff2in1/multitask_scenes.py']

# Beside the run that it is compared with. To share its warm-up, which is the same:
# --cfg-options stages.warmup.work_dir=work_dirs/multitask_scenes/warmup
work_dir = 'work_dirs/multitask_scenes-baseline'
stages = dict(synthesis=None)
