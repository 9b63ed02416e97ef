"""depth_scenes without synthetic samples: θ_E is "real only", θ_C is "real + EMA"; same real samples, same steps.

Expected score: not yet measured.
"""

_base_ = ['../diff2in1/depth_scenes.py']

stages = dict(synthesis=None)
