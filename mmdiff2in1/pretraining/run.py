"""Training a small latent diffusion model from scratch on a folder of images: autoencoder, then U-Net and text."""

import contextlib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

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

from mmdiff2in1.captions import read_captions
from mmdiff2in1.core.lock import locked
from mmdiff2in1.engine import AtomicCheckpointHook, ExactResumeHook
from mmdiff2in1.engine.distributed import launcher_of_environment, wrapper_config
from mmdiff2in1.engine.stage_folder import StageFolder
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.controlnet import branch_for
from mmdiff2in1.generators.tokenizer import split_words, words_of
from mmdiff2in1.models.checkpoints import read_checkpoint
from mmdiff2in1.pretraining.mean_squared_error import MeanSquaredError
from mmdiff2in1.visualization import curve_picture, read_scalars

from .image_folder import ImageCaptionFolder, LatentCaptions
from .label_folder import ConditionedLatents, LabelFolder, label_task
from .objectives import AutoencoderObjective, DenoisingObjective
from .options import ARCHITECTURE, OF_BRANCH, PLACES, PretrainingOptions, diffusion_config
from .sample_grid_hook import SampleGridHook
from .training_set import TrainingSet

AVERAGE = dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=0.0005, gamma=500)
LATENTS = 'latents.safetensors'
SETTINGS = 'training.json'


def pretrain(options: PretrainingOptions, data: TrainingSet | None = None) -> Path:
    """Trains the autoencoder, then U-Net and text encoder, or a ControlNet alone, and writes a diffusers folder.

    Under torchrun every process calls this. A finished stage is skipped.

    Args:
        options: All settings.
        data: Images and captions in the place of those that the options name.

    Returns:
        The folder; beside the weights it holds ``training.json`` with the options.

    Raises:
        FileExistsError: ``out`` holds a model of somebody else.
        FileNotFoundError: No images, images without label maps, or no weights to start from.
        ValueError: Unreadable images, captions or labels, a condition without labels or weights, sizes that do not fit
            the widths, or a work dir of other options.
        InUseError: Another pretraining is at work in the work dir.
    """
    if options.vae_iters == 0 and options.init is None:
        raise ValueError('vae_iters is 0 and init is None: an untrained autoencoder has no use; name init or train it')
    if options.decoder_only and (options.init is None or options.condition):
        raise ValueError(
            f'decoder_only=True with init={options.init} and condition={options.condition}: expected a trained model '
            'in init, whose decoder is trained on, and no condition'
        )
    if options.condition and (options.labels is None or options.init is None):
        raise ValueError(
            f'condition={options.condition!r} with labels={options.labels} and init={options.init}: a ControlNet needs '
            'a folder of label maps to learn from, and a trained model to add to'
        )
    if Path(options.out, 'model_index.json').is_file() and not Path(options.out, SETTINGS).is_file():
        raise FileExistsError(f'{options.out} holds a diffusion model that no pretraining wrote; name another folder')
    launcher_of_environment()
    if data is None:
        captions = read_captions(options.captions) if options.captions else None
        images = ImageCaptionFolder(options.images, options.size, captions)
    else:
        images = ImageCaptionFolder(data.folder, options.size, data.captions, data.names)
    if len(images.names) < 5:
        raise ValueError(
            f'{options.images} holds {len(images.names)} images; at least 5 are needed, one to validate on'
        )
    work_dir = options.work_dir or str(Path('work_dirs', 'pretraining', Path(options.out).name))
    options = replace(options, work_dir=work_dir)
    digest = images.digest()
    torch.manual_seed(options.seed)
    diffusion = initial_diffusion(options, images.captions).to(get_device())
    if any(side % diffusion.multiple for side in options.size):
        raise ValueError(f'size {options.size}: height and width must be multiples of {diffusion.multiple}')
    kind = _train_branch if options.condition else _train_decoder if options.decoder_only else _train_all
    with locked(work_dir, 'pretraining') if is_main_process() else contextlib.nullcontext():
        kind(options, images, digest, diffusion)
    if is_main_process():
        diffusion.save_folder(options.out, torch.float16)
        Path(options.out, SETTINGS).write_text(json.dumps(_settings(options), indent=2) + '\n')
    return Path(options.out)


def _settings(options: PretrainingOptions) -> dict[str, Any]:
    """Settings that decided the result, without places on this machine."""
    settings = {key: value for key, value in asdict(options).items() if key not in PLACES}
    if options.init is not None:
        settings = {key: value for key, value in settings.items() if key not in ARCHITECTURE}
        settings['init'] = Path(options.init).name
    return settings


def _train_all(
    options: PretrainingOptions, images: ImageCaptionFolder, digest: str, diffusion: LatentDiffusion
) -> None:
    """The autoencoder, then U-Net and text encoder."""
    diffusion.controlnet = None  # it belongs to the U-Net of before
    if options.vae_iters:
        autoencoder = AutoencoderObjective(diffusion.vae.requires_grad_(True), bf16=options.bf16)
        _train_stage('vae', autoencoder, images, digest, options, options.vae_iters, options.vae_lr)

    diffusion.requires_grad_(True).vae.requires_grad_(False).eval()
    latents = LatentCaptions(images, diffusion, file=Path(options.work_dir, LATENTS), digest=digest)
    hooks = [AVERAGE, SampleGridHook(diffusion, images.captions[:16], options.size)]
    denoising = DenoisingObjective(diffusion, bf16=options.bf16)
    _train_stage('unet', denoising, latents, digest, options, options.iters, options.lr, hooks)


def _train_decoder(
    options: PretrainingOptions, images: ImageCaptionFolder, digest: str, diffusion: LatentDiffusion
) -> None:
    """Trains the decoder, latents to images, alone; latents stay, and with them all that was trained on them."""
    diffusion.requires_grad_(False)
    for part in (diffusion.vae.decoder, diffusion.vae.post_quant_conv):
        if part is not None:
            part.requires_grad_(True)
    objective = AutoencoderObjective(diffusion.vae, bf16=options.bf16)
    _train_stage('decoder', objective, images, digest, options, options.vae_iters, options.vae_lr)


def _train_branch(
    options: PretrainingOptions, images: ImageCaptionFolder, digest: str, diffusion: LatentDiffusion
) -> None:
    """The ControlNet, a new one unless the model has one, under frozen U-Net and text encoder."""
    labels = LabelFolder(options.labels, images, label_task(options.condition, options.label_set))
    if diffusion.controlnet is None:
        diffusion.add_controlnet(branch_for(diffusion.unet, diffusion.downscale).to(diffusion.device))
    diffusion.requires_grad_(False).controlnet.requires_grad_(True)
    latents = LatentCaptions(images, diffusion, keep_scale=True, file=Path(options.work_dir, LATENTS), digest=digest)
    data = ConditionedLatents(latents, labels)
    shown = torch.stack([data[index]['conditions'] for index in range(min(16, len(labels.maps)))])
    hooks = [AVERAGE, SampleGridHook(diffusion, images.captions[:16], options.size, conditions=shown)]
    denoising = DenoisingObjective(diffusion, bf16=options.bf16)
    found = hashlib.sha256(f'{digest} {labels.digest()}'.encode()).hexdigest()
    _train_stage('controlnet', denoising, data, found, options, options.iters, options.lr, hooks)


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
    digest: str,
    options: PretrainingOptions,
    iters: int,
    lr: float,
    hooks: Sequence = (),
) -> None:
    """Trains ``objective`` in ``<work_dir>/<name>`` unless that is finished; afterwards it holds the final weights.

    ``digest`` is that of the images and captions that ``data`` was made from.
    """
    passed = [*PLACES, 'val_interval', *(() if options.condition else OF_BRANCH)]
    passed += [name for name, plain in (('lr_decay', 1), ('decoder_only', False)) if getattr(options, name) == plain]
    deciding = {k: v for k, v in asdict(options).items() if k not in passed} | dict(data=digest)
    if name == 'vae':
        deciding = {k: v for k, v in deciding.items() if k not in ('iters', 'lr')}
    fingerprint = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    folder = StageFolder(Path(options.work_dir, name), fingerprint, json.loads(json.dumps(deciding)))
    if folder.result() is None:
        barrier()  # nobody writes before everybody has looked
        runner = _runner(folder.path, objective, data, options, iters, lr, hooks)
        if is_main_process():
            folder.begin()
        runner.train()
        if is_main_process():
            folder.finish(checkpoint=Path(runner.message_hub.get_info('last_ckpt')).name, iters=iters)
            curve_picture(read_scalars(folder.path), folder.path / 'curves.png', f'{name}, {iters} iterations')
        barrier()
    # EMAHook stores the averaged weights under the plain key.
    objective.load_state_dict(read_checkpoint(folder.path / Path(folder.result()['checkpoint']).name)['state_dict'])


def _runner(path: Path, objective, data, options: PretrainingOptions, iters: int, lr: float, hooks: Sequence) -> Runner:
    images = len(data) // 2  # the second half are the mirrored images
    held_out = min(options.validation, images // 5)
    order = np.random.default_rng(options.seed).permutation(images)
    train = Subset(data, [int(i) for i in order[held_out:]] + [int(i) + images for i in order[held_out:]])
    val = Subset(data, order[:held_out].tolist())
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=lr, weight_decay=0.01)
    warmup = min(max(10, iters // 50), max(1, iters // 2))
    falling = max(1, min(iters - warmup, round(options.lr_decay * iters)))
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
            dict(type='CosineAnnealingLR', T_max=falling, eta_min_ratio=0.02, by_epoch=False, begin=iters - falling),
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
