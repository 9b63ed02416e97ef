"""SegFormer from scratch on CamVid's real images with pasted objects: 60 labelled images and 600 composed of them."""

_base_ = ['../baselines/segformer_camvid.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(_base_, preset='paste', samples_per_image=10)
