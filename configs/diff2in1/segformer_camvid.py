"""SegFormer (MiT-B0) on CamVid's real images with pasted objects: 60 labelled images, and 600 composed of them.

    mmdiff2in1 train configs/diff2in1/segformer_camvid.py

Things of the labelled images stand in other labelled images, labels true; no generator, no weights. Every step sees 4
real and 4 composed images; θ_C, the moving average, is tested. The control of equal batch is
``configs/baselines/segformer_camvid.py`` with ``train_dataloader.batch_size=8``. Expected score: 27.9 ± 0.9 mIoU on
``val``, 1.4 ± 1.4 over its control: no gain that three seeds can show (``docs/evidence.md``).
"""

_base_ = ['../baselines/segformer_camvid.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(_base_, preset='paste', samples_per_image=10)
