"""bae_scenes-normal without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

Expected score: not yet measured.
"""

_base_ = ['../diff2in1/bae_scenes-normal.py']

stages = dict(synthesis=None)
