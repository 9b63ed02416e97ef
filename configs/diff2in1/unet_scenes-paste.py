"""The small CNN from scratch with pasted objects: 60 labelled images, and 600 composed of them, labels true.

    mmdiff2in1 train configs/diff2in1/unet_scenes-paste.py

Things of the labelled images stand in other labelled images; no generator, no weights. Every step sees 8 real and 8
composed images; θ_C, the moving average, is tested. The control of equal batch is ``configs/baselines/unet_scenes.py``
with ``train_dataloader.batch_size=16``. With 20 labels ``StrongColour`` in the pipeline adds to it, with 60 it takes
away. Expected score: test mIoU 67.0 ± 1.5, 4.8 ± 1.2 over that control (five seeds, ``docs/evidence.md``).
"""

_base_ = ['../baselines/unet_scenes.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(_base_, preset='paste', samples_per_image=10)
