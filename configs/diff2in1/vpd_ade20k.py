"""Diff-2-in-1 on ADE20K with VPD: the paper's semantic segmentation experiment.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 check configs/diff2in1/vpd_ade20k.py
    mmdiff2in1 caption configs/diff2in1/vpd_ade20k.py --by blip2 --captioner /path/to/blip2-opt-2.7b
    mmdiff2in1 synthesize configs/diff2in1/vpd_ade20k.py --preview 16 --T 200,400,600
    mmdiff2in1 train configs/diff2in1/vpd_ade20k.py    # or torchrun --nproc-per-node 4 …; --resume after a kill

Warm-up: VPD's recipe (``baselines/vpd_ade20k.py``). Synthesis: one image per training image, T = 600, 50 calls of the
pretrained U-Net, no guidance. Self-improving: real and synthetic samples in one shuffled list, batch 4, pseudo labels
of θ_C, its average taken once per 40 samples, α = 0.998. A batch of 4 is shared by 4 processes at most;
eight can make the warm-up: ``baselines/vpd_ade20k.py``, then here ``--cfg-options stages.warmup=None
load_from=work_dirs/vpd_ade20k/iter_80000.pth``.

Found in the paper's sources: batch, EMA, number of synthetic images, "the training scheme of the base work". Not found,
and set here: T (600, as the released code has on NYUv2) and the length of the self-improving stage (80,000 steps, as
long as VPD's schedule): ``stages.synthesis.T``, ``train_cfg.max_iters`` with the ``end`` of the schedule. Whether θ_C
and θ_E include the U-Net was not found either: here they do, as VPD trains it;
``model.segmentor.backbone.regime=frozen`` keeps it out. The U-Net that denoises is the pretrained one, as one that is
tuned for perception forgets it; ``stages.synthesis.unet='creator'`` takes that of the warm-up, and
``DenoisingEncoderDecoder``, used as in ``vpd_scenes-finetune.py``, keeps it able to (``docs/evidence/loop.md``).

Expected score: not yet measured. The paper reports about 0.5 points of mIoU over VPD (second hand).
"""

_base_ = ['../baselines/vpd_ade20k.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    preset='paper',
    diffusion=_base_.model.backbone.diffusion,
    captions='data/ade/ADEChallengeData2016/captions.jsonl',
    samples_per_image=1,
    size=512,
)
global_batch_size = 4
stages = dict(warmup=dict(global_batch_size=16), synthesis=dict(batch_size=16, dtype='bfloat16'))
