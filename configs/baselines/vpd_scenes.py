"""vpd_scenes without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

θ_C is updated half as often, as a step sees half as many samples; `remaining` of the hook chooses α such that it ends
with the same share of the warm-up's weights.

Expected score: not yet measured over seeds; ``make demo`` prints one seed.
"""

_base_ = ['../diff2in1/vpd_scenes.py']

stages = dict(synthesis=None)
