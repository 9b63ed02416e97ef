"""Diff-2-in-1 on ADE20K with MetaPrompts: ours, not in the paper.

    export SD_WEIGHTS=/path/to/stable-diffusion-v1-5        # a diffusers folder or one .safetensors/.ckpt file
    mmdiff2in1 check configs/diff2in1/metaprompts_ade20k.py
    mmdiff2in1 caption configs/diff2in1/metaprompts_ade20k.py --by blip2 --captioner /path/to/blip2-opt-2.7b
    mmdiff2in1 train configs/diff2in1/metaprompts_ade20k.py    # or torchrun --nproc-per-node 4 …

Warm-up: MetaPrompts' recipe (``baselines/metaprompts_ade20k.py``). Synthesis and self-improving as in
``vpd_ade20k.py``: one image per training image, T = 600, batch 4, one loss of all samples, α = 0.998 per 40 samples.
θ_C and θ_E have prompts, passes and U-Nets of their own; the pretrained U-Net creates.

Expected score: not yet measured.
"""

_base_ = ['../baselines/metaprompts_ade20k.py']
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
stages = dict(warmup=dict(global_batch_size=8), synthesis=dict(batch_size=16, dtype='bfloat16'))
