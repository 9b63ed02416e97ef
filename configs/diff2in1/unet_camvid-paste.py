"""The small CNN from scratch on CamVid's real images with pasted objects: 60 labelled images, and 600 composed of them.

    mmdiff2in1 train configs/diff2in1/unet_camvid-paste.py

Every step sees 4 real and 4 composed images; θ_C, the moving average, is tested. The control of equal batch is
``configs/baselines/unet_camvid.py`` with ``train_dataloader.batch_size=8``. Expected score: not yet measured.
"""

_base_ = ['../baselines/unet_camvid.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(_base_, preset='paste', samples_per_image=10)
