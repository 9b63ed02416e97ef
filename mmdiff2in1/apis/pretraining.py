"""Training a small latent diffusion model from scratch on a folder of images: autoencoder, then U-Net and text."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.device import get_device
from mmengine.dist import barrier, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset, Subset

from mmdiff2in1.diffusion import LatentDiffusion
from mmdiff2in1.diffusion.image_folder import ImageCaptionFolder, LatentCaptions
from mmdiff2in1.diffusion.pretraining import AutoencoderObjective, DenoisingObjective
from mmdiff2in1.diffusion.tokenizer import split_words, words_of
from mmdiff2in1.engine import AtomicCheckpointHook, ExactResumeHook
from mmdiff2in1.engine.distributed import launcher_of_environment, wrapper_config
from mmdiff2in1.engine.sample_grid_hook import SampleGridHook
from mmdiff2in1.evaluation import MeanSquaredError
from mmdiff2in1.synthesis import read_captions
from mmdiff2in1.visualization import curve_picture, read_scalars

from .stage_folder import StageFolder

PLACES = ('images', 'captions', 'out', 'work_dir', 'resume')
"""Options that say where things are; the others decide the result."""


@dataclass
class PretrainingOptions:
    """Settings of a training from scratch; every field is a flag of ``tools/pretrain_diffusion.py``.

    Attributes:
        images: Folder of images.
        captions: JSONL with a caption per image, or None.
        out: Where the finished diffusers folder goes.
        work_dir: Logs, checkpoints, sample grids.
        size: Image height and width in pixels.
        widths: Channels of the U-Net's levels, fine to coarse; all but the finest attend to the tokens.
        layers: Residual layers per level of the U-Net.
        vae_widths: Channels of the autoencoder's levels; each but the last halves the resolution.
        latent_channels: Channels of the latent.
        text_width: Width of the text encoder and of the cross-attention.
        vae_iters, iters: Iterations of the two stages; ``vae_iters=0`` keeps the autoencoder of ``init`` as it is.
        batch_size: Per process.
        lr, vae_lr: Peak learning rates.
        validation: Images held out for validation.
        val_interval: Iterations between validations, each with a sample grid.
        init: Diffusers folder, or ``builtin:scenes``, to start from; its architecture and vocabulary then count.
        seed: Of weights, order and noise.
        bf16: bfloat16 autocast.
        resume: Continue an unfinished stage from its last checkpoint in ``work_dir``.
    """

    images: str
    out: str
    captions: str | None = None
    work_dir: str = 'work_dirs/pretraining'
    size: tuple[int, int] = (64, 64)
    widths: tuple[int, ...] = (32, 64, 96, 128)
    layers: int = 1
    vae_widths: tuple[int, ...] = (24, 48)
    latent_channels: int = 4
    text_width: int = 96
    vae_iters: int = 2000
    iters: int = 20000
    batch_size: int = 32
    lr: float = 1e-3
    vae_lr: float = 2e-3
    validation: int = 256
    val_interval: int = 1000
    init: str | None = None
    seed: int = 0
    bf16: bool = True
    resume: bool = False


def diffusion_config(options: PretrainingOptions, words: list[str], max_length: int) -> dict:
    """Configuration for :meth:`LatentDiffusion.from_config` of the architecture that the options describe."""
    levels = len(options.widths)
    attending = levels - 1
    return dict(
        vae=dict(
            block_out_channels=options.vae_widths,
            latent_channels=options.latent_channels,
            layers_per_block=1,
            down_block_types=('DownEncoderBlock2D',) * len(options.vae_widths),
            up_block_types=('UpDecoderBlock2D',) * len(options.vae_widths),
            norm_num_groups=8,
            mid_block_add_attention=False,
            sample_size=options.size[0],
            scaling_factor=1.0,
        ),
        unet=dict(
            sample_size=options.size[0] // 2 ** (len(options.vae_widths) - 1),
            in_channels=options.latent_channels,
            out_channels=options.latent_channels,
            block_out_channels=options.widths,
            layers_per_block=options.layers,
            norm_num_groups=16,
            down_block_types=('DownBlock2D',) + ('CrossAttnDownBlock2D',) * attending,
            up_block_types=('CrossAttnUpBlock2D',) * attending + ('UpBlock2D',),
            cross_attention_dim=options.text_width,
            attention_head_dim=4,
        ),
        text_encoder=dict(
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=3 * options.text_width,
            hidden_act='gelu',
        ),
        scheduler=dict(
            num_train_timesteps=1000,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule='scaled_linear',
            prediction_type='v_prediction',
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        words=words,
        max_length=max_length,
    )


def pretrain(options: PretrainingOptions) -> Path:
    """Trains the autoencoder, then U-Net and text encoder, and writes a diffusers folder.

    Under torchrun every process calls this. A finished stage is skipped.

    Returns:
        The folder; beside the weights it holds ``training.json`` with the options.

    Raises:
        FileNotFoundError: No images, or no weights to start from.
        ValueError: Unreadable images or captions, sizes that do not fit the widths, or a work dir of other options.
    """
    if options.vae_iters == 0 and options.init is None:
        raise ValueError('vae_iters is 0 and init is None: an untrained autoencoder has no use; name init or train it')
    launcher_of_environment()
    captions = read_captions(options.captions) if options.captions else None
    images = ImageCaptionFolder(options.images, options.size, captions)
    if len(images.names) < 5:
        raise ValueError(
            f'{options.images} holds {len(images.names)} images; at least 5 are needed, one to validate on'
        )
    torch.manual_seed(options.seed)
    diffusion = initial_diffusion(options, images.captions).to(get_device())
    if any(side % diffusion.multiple for side in options.size):
        raise ValueError(f'size {options.size}: height and width must be multiples of {diffusion.multiple}')
    if options.vae_iters:
        autoencoder = AutoencoderObjective(diffusion.vae.requires_grad_(True), bf16=options.bf16)
        _train_stage('vae', autoencoder, images, options, options.vae_iters, options.vae_lr)

    diffusion.requires_grad_(True).vae.requires_grad_(False).eval()
    latents = LatentCaptions(images, diffusion)
    hooks = [
        dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=0.0005, gamma=500),
        SampleGridHook(diffusion, images.captions[:16], options.size),
    ]
    _train_stage(
        'unet', DenoisingObjective(diffusion, bf16=options.bf16), latents, options, options.iters, options.lr, hooks
    )
    if is_main_process():
        diffusion.save_folder(options.out, torch.float16)
        settings = {k: v for k, v in asdict(options).items() if k not in PLACES}
        Path(options.out, 'training.json').write_text(json.dumps(settings, indent=2) + '\n')
    return Path(options.out)


def initial_diffusion(options: PretrainingOptions, captions: list[str]) -> LatentDiffusion:
    """Random weights with a vocabulary made from the captions, or the weights of ``options.init``."""
    if options.init is not None:
        diffusion = LatentDiffusion.from_pretrained(options.init)
        unknown = sorted(set(words_of(captions)) - set(diffusion.text.tokenizer.get_vocab()))
        if unknown and options.captions:
            print_log(f'{options.init} does not know {len(unknown)} words of the captions: {unknown[:10]}', 'current')
        return diffusion
    longest = max(len(split_words(caption)) for caption in captions)
    max_length = 8 * math.ceil((longest + 2) / 8)
    return LatentDiffusion.from_config(diffusion_config(options, words_of(captions), max_length))


def _train_stage(
    name: str,
    objective: BaseModel,
    data: Dataset,
    options: PretrainingOptions,
    iters: int,
    lr: float,
    hooks: Sequence = (),
) -> None:
    """Trains ``objective`` in ``<work_dir>/<name>`` unless that is finished; afterwards it holds the final weights."""
    deciding = {k: v for k, v in asdict(options).items() if k not in (*PLACES, 'val_interval')}
    if name == 'vae':
        deciding = {k: v for k, v in deciding.items() if k not in ('iters', 'lr')}
    fingerprint = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    folder = StageFolder(Path(options.work_dir, name), fingerprint)
    if folder.result() is None:
        barrier()  # nobody writes before everybody has looked
        runner = _runner(folder.path, objective, data, options, iters, lr, hooks)
        if is_main_process():
            folder.begin()
        runner.train()
        if is_main_process():
            folder.finish(checkpoint=runner.message_hub.get_info('last_ckpt'), iters=iters)
            curve_picture(read_scalars(folder.path), folder.path / 'curves.png', f'{name}, {iters} iterations')
        barrier()
    # EMAHook stores the averaged weights under the plain key.
    checkpoint = torch.load(folder.result()['checkpoint'], map_location='cpu', weights_only=False)
    objective.load_state_dict(checkpoint['state_dict'])


def _runner(path: Path, objective, data, options: PretrainingOptions, iters: int, lr: float, hooks: Sequence) -> Runner:
    images = len(data) // 2  # the second half are the mirrored images
    held_out = min(options.validation, images // 5)
    order = np.random.default_rng(options.seed).permutation(images)
    train = Subset(data, [int(i) for i in order[held_out:]] + [int(i) + images for i in order[held_out:]])
    val = Subset(data, order[:held_out].tolist())
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=lr, weight_decay=0.01)
    warmup = min(max(10, iters // 50), max(1, iters // 2))
    resume = options.resume and (path / 'last_checkpoint').is_file()
    return Runner(
        model=objective,
        work_dir=str(path),
        train_dataloader=DataLoader(train, options.batch_size, sampler=InfiniteSampler(train, seed=options.seed)),
        train_cfg=dict(by_epoch=False, max_iters=iters, val_interval=min(options.val_interval, iters)),
        val_dataloader=DataLoader(val, options.batch_size, sampler=DefaultSampler(val, shuffle=False)),
        val_cfg=dict(),
        val_evaluator=Evaluator(MeanSquaredError(psnr=isinstance(objective, AutoencoderObjective))),
        optim_wrapper=OptimWrapper(optimizer, clip_grad=dict(max_norm=1.0)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=warmup),
            dict(
                type='CosineAnnealingLR', T_max=max(1, iters - warmup), eta_min_ratio=0.02, by_epoch=False, begin=warmup
            ),
        ],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
            checkpoint=AtomicCheckpointHook(by_epoch=False, interval=min(250, iters), max_keep_ckpts=2),
        ),
        custom_hooks=[ExactResumeHook(), *hooks],
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=options.seed),
        launcher=launcher_of_environment(),
        cfg=Config(dict(model_wrapper_cfg=wrapper_config())),
        default_scope='mmengine',
        resume=resume,
        experiment_name=f'{path.name}-{path.parent.name}',
    )
