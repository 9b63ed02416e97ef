"""ADE20K's official layout with a handful of small random images, and weights that a config of it can be run with."""

import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from tiny_stable_diffusion import stable_diffusion

ROOT = Path(__file__).resolve().parents[1]
SIDE = 32


def write_ade20k(root: Path, train: int = 4, validation: int = 2, size: tuple[int, int] = (SIDE, 48)) -> Path:
    """Images with two halves and label files of raw values 0 … 150 (0: unlabelled) below ``root``."""
    random = np.random.default_rng(0)
    for part, name, count in (('training', 'train', train), ('validation', 'val', validation)):
        for kind in ('images', 'annotations'):
            (root / kind / part).mkdir(parents=True, exist_ok=True)
        for i in range(1, count + 1):
            stem = f'ADE_{name}_{i:08d}'
            left, right = random.integers(1, 151, 2)
            width = size[1] + 16 * (i % 2)  # not all of one size
            label = np.full((size[0], width), left, np.uint8)
            label[:, width // 2 :] = right
            label[0] = 0
            colours = random.integers(0, 256, (151, 3), dtype=np.uint8)
            noise = random.integers(0, 20, (*label.shape, 3), dtype=np.uint8)
            Image.fromarray(colours[label] // 2 + noise).save(root / 'images' / part / f'{stem}.jpg', quality=95)
            Image.fromarray(label).save(root / 'annotations' / part / f'{stem}.png')
    return root


def write_weights(folder: Path) -> Path:
    """A narrow Stable Diffusion 1.x in diffusers' layout; what a config of its size needs is in :func:`narrow`."""
    stable_diffusion(1).save_folder(folder)
    return folder


def full_size(name: str, embeddings: Path) -> Config:
    """A config of the repository with random weights of Stable Diffusion 1.5's architecture instead of its weights."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    backbone = backbone_of(cfg)
    backbone.diffusion = dict(architecture='stable-diffusion-1.5')
    if backbone.type == 'DiffusionBackbone':
        torch.save(torch.zeros(150, 768), embeddings)
        backbone.update(class_embeddings=str(embeddings), classes=None)
    return cfg


def narrow(name: str, data: Path, weights: Path, embeddings: Path) -> Config:
    """A config of the repository over the tiny data and weights, a few steps long."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py', format_python_code=False)  # yapf takes longer than a step
    torch.manual_seed(0)
    torch.save(torch.randn(150, 64), embeddings)
    segmentor = cfg.model.get('segmentor', cfg.model)
    # mmengine gives the one of the top level to a model that has none of its own, as the self-improving wrapper.
    segmentor.data_preprocessor.size = cfg.data_preprocessor.size = (SIDE, SIDE)
    segmentor.backbone.diffusion, head = str(weights), segmentor.decode_head.head
    if segmentor.backbone.type == 'MetaPromptBackbone':
        segmentor.backbone.num_prompts = 6
        head.update(in_channels=[6] * 3, in_index=[0, 1, 2], channels=8)
        segmentor.auxiliary_head.update(in_channels=6, channels=8)
    else:
        segmentor.backbone.update(class_embeddings=str(embeddings), feature=dict(preset='vpd', map_levels=(1,)))
        segmentor.neck.update(in_channels=[32, 64 + 150, 128], out_channels=8, num_outs=3)
        head.update(in_channels=[8] * 3, in_index=[0, 1, 2], feature_strides=[2, 4, 8], channels=8)
    segmentor.test_cfg.update(crop_size=(SIDE, SIDE), stride=(21, 21))
    train = cfg.train_dataloader.dataset
    for dataset in (train.get('dataset', train), cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        dataset.data_root = str(data)
        for step in dataset.pipeline:
            if 'scale' in step:
                step.scale = (4 * SIDE, SIDE)
            if 'crop_size' in step:
                step.crop_size = (SIDE, SIDE)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.default_hooks.logger.interval = 1
    steps = dict(max_iters=2, val_interval=2)
    cfg.train_cfg.update(steps)
    if 'stages' in cfg:
        cfg.stages.warmup.setdefault('train_cfg', {}).update(steps)
        cfg.stages.warmup.update(global_batch_size=8, work_dir=None)
        cfg.stages.warmup.pop('work_dir')
        if cfg.stages.synthesis:
            captions = data / 'captions.jsonl'
            names = sorted(path.name for path in (data / 'images/training').iterdir())
            lines = (json.dumps(dict(image=f'training/{name}', caption='two halves')) for name in names)
            captions.write_text('\n'.join(lines))
            cfg.stages.synthesis.update(diffusion=str(weights), captions=str(captions), size=SIDE, num_calls=2)
    else:
        cfg.global_batch_size = 4
    return cfg


def backbone_of(cfg: Config) -> dict:
    """The backbone's config, of a plain and of a self-improving model."""
    return cfg.model.get('segmentor', cfg.model).backbone
