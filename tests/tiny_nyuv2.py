"""NYUv2's layouts with a handful of small rendered rooms, and weights that a config of them can be run with."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from mmengine.config import Config
from tiny_clip import text_config, tokenizer
from tiny_stable_diffusion import SCHEDULE
from transformers import CLIPTextModel

from mmdiff2in1.datasets.scenes import render_scene
from mmdiff2in1.generators import LatentDiffusion, NoiseSchedule
from mmdiff2in1.generators.text import CaptionEncoder
from mmdiff2in1.tasks import Depth, SurfaceNormal

ROOT = Path(__file__).resolve().parents[1]
SIZE = (40, 56)
WIDTHS = (16, 16, 32, 32)
ALL_TAPS = [112, 112, 176, 192]
"""Channels of all blocks of a U-Net of these widths, by level: 6a + b, a + 4b + c, b + 4c + d, c + 5d."""


def write_nyuv2(root: Path, train: int = 6, test: int = 2) -> Path:
    """Bae's pack, and VPD's layout with its lists, below ``root``: rooms of 40 × 56 pixels."""
    lists = {'train': [], 'test': []}
    for part, count in (('train', train), ('test', test)):
        scenes = root / ('sync' if part == 'train' else 'official_splits/test') / 'kitchen_0001'
        for folder in (root / part / 'img', root / part / 'norm', scenes):
            folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            scene = render_scene(5, i + 100 * (part == 'test'), 64)
            image, normal, depth = (array[: SIZE[0], : SIZE[1]] for array in (scene.image, scene.normal, scene.depth))
            normal, depth = normal.copy(), depth.copy()
            normal[:3] = depth[:3] = 0
            rgb = np.where(normal.any(-1, keepdims=True), np.round((normal + 1) / 2 * 255), 0).astype(np.uint8)
            assert np.abs(SurfaceNormal().decode(rgb) - normal).max() < 0.02
            cv2.imwrite(str(root / part / 'img' / f'{i:06d}.png'), image[..., ::-1])
            cv2.imwrite(str(root / part / 'norm' / f'{i:06d}.png'), rgb[..., ::-1])
            cv2.imwrite(str(scenes / f'rgb_{i:05d}.jpg'), image[..., ::-1])
            cv2.imwrite(str(scenes / f'sync_depth_{i:05d}.png'), Depth().encode(depth))
            lists[part].append(f'/kitchen_0001/rgb_{i:05d}.jpg /kitchen_0001/sync_depth_{i:05d}.png 518.8579')
        (root / f'{part}_list.txt').write_text('\n'.join(lists[part]))
    names = [f'train/img/{i:06d}.png' for i in range(train)] + [f'kitchen_0001/rgb_{i:05d}.jpg' for i in range(train)]
    lines = (json.dumps(dict(image=name, caption='a room')) for name in names)
    (root / 'captions.jsonl').write_text('\n'.join(lines))
    return root


def write_weights(folder: Path) -> Path:
    """A Stable Diffusion 1.x of four narrow levels in diffusers' layout; the latent has half the side of the image."""
    torch.manual_seed(0)
    attention, plain = ('CrossAttn{}Block2D',) * 3, ('{}Block2D',)
    unet = UNet2DConditionModel(
        block_out_channels=WIDTHS,
        layers_per_block=2,
        norm_num_groups=8,
        down_block_types=tuple(kind.format('Down') for kind in attention + plain),
        up_block_types=tuple(kind.format('Up') for kind in plain + attention),
        cross_attention_dim=64,
        attention_head_dim=2,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=8,
        down_block_types=('DownEncoderBlock2D',) * 2,
        up_block_types=('UpDecoderBlock2D',) * 2,
        layers_per_block=1,
        latent_channels=4,
    )
    text = text_config(
        hidden_size=64,
        num_attention_heads=1,
        num_hidden_layers=1,
        intermediate_size=64,
        hidden_act='quick_gelu',
    )
    encoder = CaptionEncoder(CLIPTextModel(text), tokenizer('<|endoftext|>'))
    schedule = NoiseSchedule(SCHEDULE | dict(prediction_type='epsilon'))
    LatentDiffusion(vae, unet, encoder, schedule).save_folder(folder)
    embeddings = folder / 'scenes.pth'
    torch.save(torch.randn(27, 64), embeddings)
    return folder


def full_size(name: str, folder: Path) -> Config:
    """A config of the repository with random weights of Stable Diffusion 1.5's architecture instead of its weights."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    backbone = _segmentor(cfg).backbone
    if backbone.type == 'MetaPromptBackbone':
        backbone.diffusion = dict(architecture='stable-diffusion-1.5')
    elif backbone.type == 'DiffusionBackbone':
        backbone.diffusion = dict(architecture='stable-diffusion-1.5')
        # Tokens are computed from words, which the meta device cannot do; neither could it read them from a file.
        backbone.update(classes=None)
        if 'released' in name:
            backbone.feature.update(noise=False, posterior='mode')  # draws need a device
        if backbone.feature.preset == 'vpd_depth':
            backbone.class_embeddings = str(folder / 'scenes.pth')
            torch.save(torch.zeros(27, 768), backbone.class_embeddings)
    return cfg


def narrow(name: str, data: Path, weights: Path) -> Config:
    """A config of the repository over the tiny data and weights, two steps long."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py', format_python_code=False)  # yapf takes longer than a step
    segmentor = _segmentor(cfg)
    released, depth = 'released' in name, 'depth' in name
    size = (40, 40) if depth else (48, 48) if released else SIZE
    segmentor.data_preprocessor.size = cfg.data_preprocessor.size = size
    head = segmentor.decode_head.get('head', segmentor.decode_head)
    _narrow_backbone(segmentor.backbone, weights)
    if 'neck' in segmentor:
        segmentor.neck.update(in_channels=ALL_TAPS, out_channels=[8, 8, 8, 16, 16])
        if segmentor.neck.type == 'DiffusionPyramidAdapter':
            segmentor.neck.update(in_strides=[2, 4, 8, 16], joins=None)
        head.in_channels = [8, 8, 8, 16, 16]
    elif segmentor.backbone.type == 'MetaPromptBackbone':
        head.head.update(in_channels=6, channels=8, filters=[8])
        segmentor.test_cfg.update(crop_size=(40, 40), stride=(16, 16))
    elif depth:
        head.update(in_channels=list(WIDTHS), stride=2, embed_dim=4, feature_dim=32, num_deconv_filters=[8, 8, 8])
        segmentor.test_cfg.update(crop_size=(40, 40), stride=(16, 16))
    elif head.type == 'IDiscHead':
        head.in_channels = list(WIDTHS) if segmentor.backbone.type == 'DiffusionBackbone' else [8, 16, 32, 64]
    else:
        head.in_channels = [8, 8, 8, 16, 128]
    if head.type == 'BaeNormalHead':
        head.update(widths=[16, 16, 8, 8], point_channels=8)
    elif head.type == 'IDiscHead':
        head.update(channels=16, idrs=4, idr_channels=8, layers=1, heads=2, points=2)
    train = cfg.train_dataloader.dataset
    for dataset in (train.get('dataset', train), cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        dataset.data_root = str(data)
        for step in dataset.pipeline:
            if step['type'] == 'DenseResize':
                step.scale = (48, 48)
            if 'crop_size' in step:
                step.crop_size = (40, 40)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    if depth:
        cfg.val_evaluator.crop = cfg.test_evaluator.crop = None  # defined on 480 × 640 alone
    cfg.default_hooks.logger.interval = 1
    steps = dict(max_iters=2, val_interval=2)
    cfg.train_cfg.update(steps)
    cfg.global_batch_size = 2
    if 'stages' in cfg:
        cfg.stages.warmup.update(global_batch_size=2)
        cfg.stages.warmup.train_cfg.update(steps)
        cfg.stages.synthesis.update(
            diffusion=str(weights), captions=str(data / 'captions.jsonl'), num_samples=4, num_calls=2, dtype='float32'
        )
        cfg.stages.synthesis.size = [48, 48] if released else [48, 64]
    return cfg


def _narrow_backbone(backbone: dict, weights: Path) -> None:
    if backbone.type == 'MetaPromptBackbone':
        backbone.update(diffusion=str(weights), num_prompts=6)
    elif backbone.type == 'DiffusionBackbone':
        backbone.update(diffusion=str(weights), bf16=False)
        if backbone.feature.preset == 'vpd_depth':
            backbone.update(class_embeddings=str(weights / 'scenes.pth'), classes=None)
    elif backbone.model.model_type == 'swin':
        backbone.model.update(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=4)
    else:
        backbone.model.update(width_coefficient=0.1, depth_coefficient=0.1, hidden_dim=128)


def _segmentor(cfg: Config) -> dict:
    return cfg.model.get('segmentor', cfg.model)
