"""vpd_scenes without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

θ_C is updated half as often, as a step sees half as many samples; `remaining` of the hook chooses α such that it ends
with the same share of the warm-up's weights.

Expected score, test mIoU over five seeds with a lighter head: 55.7 ± 0.8, with and without the average
(``docs/evidence/loop.md``); ``make demo-loop`` prints one seed of this head.
"""

_base_ = ['../diff2in1/vpd_scenes.py']

# Beside the run that it is compared with. To share its warm-up, which is the same:
# --cfg-options stages.warmup.work_dir=work_dirs/vpd_scenes/warmup
work_dir = 'work_dirs/vpd_scenes-baseline'
stages = dict(synthesis=None)
