"""A segmentor that knows nothing of diffusion, with synthetic samples: the recipe of the README as a file.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 train configs/baselines/segformer_ade20k.py     # or load_from=… a published checkpoint of mmseg
    mmdiff2in1 caption configs/diff2in1/segformer_ade20k.py --by blip2 --captioner /path/to/blip2-opt-2.7b
    mmdiff2in1 train configs/diff2in1/segformer_ade20k.py      # creates, self-improves; --resume after a kill

Ours, not in the paper, and for other segmentors a pattern: the trained checkpoint is the warm-up (``load_from``), every
step sees 16 real images as before and 16 created ones in addition, with a weight of 0.3 and without pixels of which θ_C
is less sure than 0.9: the settings that did no harm at small scale (``docs/evidence/loop.md``). A quarter of the
baseline's steps, at a tenth of its rate.

Expected score: not yet measured.
"""

_base_ = ['../baselines/segformer_ade20k.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    alpha=0.998,
    diffusion='{{$SD_WEIGHTS:weights/stable-diffusion-v1-5}}',
    captions='data/ade/ADEChallengeData2016/captions.jsonl',
    samples_per_image=1,
    size=512,
)
load_from = 'work_dirs/segformer_ade20k/iter_160000.pth'
work_dir = 'work_dirs/segformer_ade20k-diff2in1'
model = dict(segmentor=dict(backbone=dict(init_cfg=None)))  # load_from brings all weights
train_cfg = dict(max_iters=40000, val_interval=8000)
optim_wrapper = dict(optimizer=dict(lr=6e-6))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=500, end=40000),
]
stages = dict(synthesis=dict(batch_size=16, dtype='bfloat16'))
