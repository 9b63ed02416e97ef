"""vpd_scenes without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

Expected score: not yet measured over seeds; ``make demo`` prints one seed.
"""

_base_ = ['../diff2in1/vpd_scenes.py']

# 400 steps of 12 real samples: 120 updates, which leave the same 5 % as the 240 of the run with synthetic samples.
custom_hooks = [
    dict(type='ExactResumeHook'),
    dict(type='SelfImprovingHook', alpha=0.05 ** (1 / (400 * 12 // 40)), samples_per_update=40),
]
stages = dict(synthesis=None)
