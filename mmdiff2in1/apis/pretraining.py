"""Training a small latent diffusion model from scratch on a folder of images: autoencoder first, then U-Net and text."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset

from ..diffusion import LatentDiffusion
from ..diffusion.image_folder import ImageCaptionFolder, LatentCaptions
from ..diffusion.pretraining import AutoencoderObjective, DenoisingObjective
from ..diffusion.tokenizer import words_of
from ..engine.distributed import launcher_of_environment, wrapper_config


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
        vae_iters, iters: Iterations of the two stages.
        batch_size: Per process.
        lr, vae_lr: Peak learning rates.
        validation: Images held out for validation.
        val_interval: Iterations between validations, each with a sample grid.
        seed: Of weights, order and noise.
        bf16: bfloat16 autocast.
        resume: Continue from the last checkpoints of ``work_dir``.
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
    seed: int = 0
    bf16: bool = True
    resume: bool = False


def diffusion_config(options: PretrainingOptions, words: list[str], max_length: int) -> dict:
    """Configuration for :meth:`LatentDiffusion.from_config` of the architecture that the options describe."""
    levels = len(options.widths)
    attending = levels - 1
    return dict(
        vae=dict(
            block_out_channels=options.vae_widths, latent_channels=options.latent_channels, layers_per_block=1,
            down_block_types=('DownEncoderBlock2D',) * len(options.vae_widths),
            up_block_types=('UpDecoderBlock2D',) * len(options.vae_widths),
            norm_num_groups=8, mid_block_add_attention=False, sample_size=options.size[0],
            scaling_factor=1.0,
        ),
        unet=dict(
            sample_size=options.size[0] // 2 ** (len(options.vae_widths) - 1),
            in_channels=options.latent_channels, out_channels=options.latent_channels,
            block_out_channels=options.widths, layers_per_block=options.layers, norm_num_groups=16,
            down_block_types=('DownBlock2D',) + ('CrossAttnDownBlock2D',) * attending,
            up_block_types=('CrossAttnUpBlock2D',) * attending + ('UpBlock2D',),
            cross_attention_dim=options.text_width, attention_head_dim=4,
        ),
        text_encoder=dict(
            num_hidden_layers=3, num_attention_heads=4, intermediate_size=3 * options.text_width, hidden_act='gelu',
        ),
        scheduler=dict(
            num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear',
            prediction_type='v_prediction', clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        ),
        words=words, max_length=max_length,
    )


class MeanSquaredError(BaseMetric):
    """Mean of ``mse`` over all validation samples; for images also the PSNR in dB (range 0 … 1)."""

    def __init__(self, psnr: bool = False):
        super().__init__()
        self.psnr = psnr

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Keeps the error per sample."""
        self.results += [float(sample['mse']) for sample in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """``mse`` and, where asked for, ``psnr``: the mean over images of each image's own PSNR."""
        metrics = {'mse': float(np.mean(results))}
        if self.psnr:
            metrics['psnr'] = float(np.mean([-10 * math.log10(max(r, 1e-12)) for r in results]))
        return metrics


class _Validation:
    """Lets mmengine's validation loop read the per-sample errors of an objective."""

    def val_step(self, data: dict) -> list[dict]:
        """Per-sample ``mse`` of one batch."""
        module = self
        with torch.no_grad():
            errors = module(**module.data_preprocessor(data, False), mode='predict')['mse']
        return [{'mse': e} for e in errors.tolist()]


class _Autoencoder(_Validation, AutoencoderObjective):
    pass


class _Denoiser(_Validation, DenoisingObjective):
    pass


class SampleGridHook(Hook):
    """After each validation: images from pure noise under validation captions, on the averaged weights."""

    # Above EMAHook, which puts the trained weights back in its own after_val_epoch.
    priority = 'ABOVE_NORMAL'

    def __init__(self, diffusion: LatentDiffusion, captions: list[str], size: tuple[int, int], rows: int = 4):
        self.diffusion, self.captions, self.size, self.rows = diffusion, captions[: rows * rows], size, rows

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Writes ``samples/iter_N.png``."""
        if not is_main_process():
            return
        images = self.diffusion.create(
            captions=self.captions, seeds=list(range(len(self.captions))), T=self.diffusion.schedule.T_max,
            num_calls=25, solver='dpm++', guidance_scale=2.0, size=self.size,
        ).images
        grid = images.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        rows = [np.concatenate(list(grid[i: i + self.rows]), 1) for i in range(0, len(grid), self.rows)]
        folder = Path(runner.work_dir, 'samples')
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(rows, 0)).save(folder / f'iter_{runner.iter}.png')


def _loader(dataset: Dataset, batch_size: int, seed: int, train: bool) -> DataLoader:
    from mmengine.dataset import DefaultSampler, InfiniteSampler

    sampler = InfiniteSampler(dataset, seed=seed) if train else DefaultSampler(dataset, shuffle=False)
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler)


def _runner(name: str, model, data: Dataset, options: PretrainingOptions, iters: int, lr: float, **extra) -> Runner:
    held_out = min(options.validation, len(data) // 5)
    order = np.random.default_rng(options.seed).permutation(len(data))
    train, val = Subset(data, order[held_out:].tolist()), Subset(data, order[:held_out].tolist())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=0.01)
    warmup = min(max(10, iters // 50), max(1, iters // 2))
    runner = Runner(
        model=model,
        work_dir=str(Path(options.work_dir, name)),
        train_dataloader=_loader(train, options.batch_size, options.seed, True),
        train_cfg=dict(by_epoch=False, max_iters=iters, val_interval=min(options.val_interval, iters)),
        val_dataloader=_loader(val, options.batch_size, options.seed, False),
        val_cfg=dict(),
        val_evaluator=Evaluator(MeanSquaredError(psnr=name == 'vae')),
        optim_wrapper=OptimWrapper(optimizer, clip_grad=dict(max_norm=1.0)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=warmup),
            dict(type='CosineAnnealingLR', T_max=max(1, iters - warmup), eta_min_ratio=0.02, by_epoch=False, begin=warmup),
        ],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=min(500, iters), max_keep_ckpts=2),
        ),
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=options.seed),
        launcher=launcher_of_environment(),
        cfg=dict(model_wrapper_cfg=wrapper_config()),
        default_scope='mmengine',
        resume=options.resume,
        experiment_name=f'{name}-{Path(options.work_dir).name}',
        **extra,
    )
    return runner


def pretrain(options: PretrainingOptions) -> Path:
    """Trains the autoencoder, then U-Net and text encoder, and writes a diffusers folder.

    Returns:
        The folder.
    """
    torch.manual_seed(options.seed)
    images = ImageCaptionFolder(options.images, options.size, options.captions)
    words = words_of(images.captions)
    longest = max(len(words_of([c])) and len(c.replace(',', ' ').split()) for c in images.captions)
    config = diffusion_config(options, words, max_length=8 * math.ceil((longest + 2) / 8))
    diffusion = LatentDiffusion.from_config(config)

    vae = _runner('vae', _Autoencoder(diffusion.vae, bf16=options.bf16), images, options, options.vae_iters, options.vae_lr)
    if not _finished(vae):
        vae.train()
        _mark_finished(vae, options)
    checkpoint = torch.load(Path(vae.work_dir, 'finished.pth'), map_location='cpu', weights_only=True)
    diffusion.vae.load_state_dict(checkpoint)
    diffusion.requires_grad_(True).vae.requires_grad_(False).eval()

    latents = LatentCaptions(images, diffusion)
    diffusion.vae.register_to_config(scaling_factor=round(1 / float(torch.cat(latents.latents).float().std()), 5))
    for part in latents.latents:
        part.mul_(diffusion.vae.config.scaling_factor)
    ema = dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=0.0005, gamma=500)
    grid = SampleGridHook(diffusion, images.captions[:16], options.size)
    unet = _runner(
        'unet', _Denoiser(diffusion, bf16=options.bf16), latents, options, options.iters, options.lr,
        custom_hooks=[ema, grid],
    )
    if not _finished(unet):
        unet.train()
        _mark_finished(unet, options)
    return export(options, diffusion)


def export(options: PretrainingOptions, diffusion: LatentDiffusion) -> Path:
    """Writes the averaged weights of the newest U-Net checkpoint as a diffusers folder (fp16, safetensors)."""
    newest = Path(options.work_dir, 'unet', 'last_checkpoint').read_text()
    # mmengine's EMAHook stores the averaged weights under the plain key.
    state = torch.load(newest, map_location='cpu', weights_only=False)['state_dict']
    for part, prefix in ((diffusion.unet, 'unet.'), (diffusion.text, 'text.')):
        part.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    if is_main_process():
        diffusion.save_folder(options.out, torch.float16)
        Path(options.out, 'training.json').write_text(json.dumps(asdict(options), indent=2) + '\n')
    return Path(options.out)


def _finished(runner: Runner) -> bool:
    return Path(runner.work_dir, 'finished.pth').exists()


def _mark_finished(runner: Runner, options: PretrainingOptions) -> None:
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    part = model.vae if isinstance(model, AutoencoderObjective) else model.unet
    if is_main_process():
        torch.save(part.state_dict(), Path(runner.work_dir, 'finished.pth'))
    barrier()

