"""vpd_camvid without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

Expected score: not yet measured over seeds.
"""

_base_ = ['../diff2in1/vpd_camvid.py']

custom_hooks = [
    dict(type='ExactResumeHook'),
    dict(type='SelfImprovingHook', alpha=0.05 ** (1 / (300 * 8 // 40)), samples_per_update=40),
]
stages = dict(synthesis=None)
