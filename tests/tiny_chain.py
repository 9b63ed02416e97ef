"""The whole chain on tiny random weights and eight scenes: config, start in a process of its own, kill, compare."""

import json
from pathlib import Path

import numpy as np
import torch
from forks import Fork, skip_where_a_gpu_is_in_use
from mmengine.config import Config
from PIL import Image

from mmdiff2in1.__main__ import leave, run
from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.generators import LatentDiffusion

ROOT = Path(__file__).resolve().parents[1]
SIZE = 32


def prepare(folder: Path, diffusion: dict) -> Path:
    """``weights`` of such a diffusion model, and ``scenes``: 8 train, 4 val, 4 test images of 32 × 32."""
    torch.manual_seed(0)
    LatentDiffusion.from_config(diffusion).save_folder(folder / 'weights')
    make_scenes(folder / 'scenes', {'train': 8, 'val': 4, 'test': 4}, size=SIZE, workers=1, progress=False)
    return folder


def chain_options(folder: Path) -> dict:
    """What turns ``configs/diff2in1/vpd_scenes.py`` into a chain of seconds; ``folder`` comes from ``prepare``."""
    weights, data = str(folder / 'weights'), str(folder / 'scenes')
    parts = {f'{part}_dataloader.dataset.data_root': data for part in ('val', 'test')}
    return parts | {
        'model.segmentor.backbone.diffusion': weights,
        'model.segmentor.backbone.detail': None,
        'model.segmentor.backbone.bf16': False,
        'model.segmentor.neck': dict(type='FPN', in_channels=[8, 27, 27], out_channels=8, num_outs=3),
        'model.segmentor.decode_head.head.in_channels': [8, 8, 8],
        'model.segmentor.decode_head.head.in_index': [0, 1, 2],
        'model.segmentor.decode_head.head.feature_strides': [2, 4, 8],
        'model.segmentor.decode_head.head.channels': 8,
        'model.segmentor.data_preprocessor.size': (SIZE, SIZE),
        # An untrained θ_C is sure of nothing.
        'model.label_rule': None,
        'train_dataloader.batch_size': 4,
        'train_dataloader.dataset.mix': dict(added=2),
        'train_dataloader.dataset.dataset.data_root': data,
        'train_dataloader.dataset.dataset.num_labelled': 6,
        'train_dataloader.dataset.dataset.pipeline.2.scale': (SIZE, SIZE),
        'train_dataloader.dataset.dataset.pipeline.3.crop_size': (SIZE, SIZE),
        'stages.warmup.train_cfg': dict(max_iters=20, val_interval=10),
        'stages.synthesis.diffusion': weights,
        'stages.synthesis.captions': f'{data}/train/captions.jsonl',
        'stages.synthesis.size': SIZE,
        'stages.synthesis.samples_per_image': 2,
        'stages.synthesis.num_calls': 3,
        'stages.synthesis.batch_size': 4,
        'train_cfg': dict(max_iters=20, val_interval=10),
        'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint.interval': 5,
        'default_hooks.checkpoint.max_keep_ckpts': 3,
    }


def chain_config(folder: Path, name: str = 'diff2in1', variant: str = '') -> Config:
    """The chain as a config; ``name``: ``diff2in1`` or ``baselines``; ``variant``: end of the file name."""
    # Not formatted by yapf, which takes longer than the steps.
    cfg = Config.fromfile(ROOT / 'configs' / name / f'vpd_scenes{variant}.py', format_python_code=False)
    options = chain_options(folder)
    cfg.merge_from_dict(
        {k: v for k, v in options.items() if cfg.stages.synthesis or not k.startswith('stages.synthesis')}
    )
    return cfg


def start(config: Path, work_dir: Path, *flags: str) -> Fork:
    """``tools/train.py`` in a process of its own, one thread."""
    skip_where_a_gpu_is_in_use()
    arguments = [str(config), '--work-dir', str(work_dir), *flags, '--no-report']
    return Fork(work_dir.with_suffix('.log'), _train, arguments)


def _train(arguments: list[str]) -> None:
    leave(run('train', arguments, 'tools/train.py'))


def finish(process: Fork) -> str:
    """Waits for the end; the output, which is shown if it failed."""
    output = process.wait(300)
    assert process.returncode == 0, output[-3000:]
    return output


def final_state(work_dir: Path, stage: str, iters: int = 20) -> dict[str, torch.Tensor]:
    """All tensors of a stage's last checkpoint: models, optimizer moments, EMA bookkeeping."""
    checkpoint = torch.load(work_dir / stage / f'iter_{iters}.pth', map_location='cpu', weights_only=False)
    tensors = {f'model.{k}': v for k, v in checkpoint['state_dict'].items()}
    for index, moments in checkpoint['optimizer']['state'].items():
        tensors |= {f'optimizer.{index}.{k}': torch.as_tensor(v) for k, v in moments.items()}
    return tensors


def logged_losses(stage: Path) -> list[dict]:
    """Iteration, losses and kept share as logged, one entry per training iteration."""
    lines = [
        json.loads(line) for f in sorted(stage.glob('*/vis_data/scalars.json')) for line in f.read_text().splitlines()
    ]
    keep = ('loss', 'kept_share', 'ema_updates')
    return [
        {k: v for k, v in line.items() if any(part in k for part in keep)} | {'iter': line['iter']}
        for line in lines
        if 'loss' in line
    ]


def creation_trace(folder: Path) -> list[dict]:
    """Mean and spread of the U-Net's output at each of the 20 calls of one creation (T = 600) with the tiny weights."""
    diffusion, trace = LatentDiffusion.from_pretrained(folder / 'weights'), []
    image = np.asarray(Image.open(folder / 'scenes' / 'train' / 'images' / '000000.png'))
    source = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 127.5 - 1

    def keep(module, args, output):
        trace.append({'timestep': int(args[1][0]), 'mean': float(output[0].mean()), 'std': float(output[0].std())})

    with diffusion.unet.register_forward_hook(keep):
        diffusion.create(source, captions=['a red ball'], seeds=[0], T=600, num_calls=20)
    return trace
