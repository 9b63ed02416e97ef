"""Six configs of different kinds, each a training of seconds: of the package's own, and as mmseg's users have them."""

from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config
from tiny_chain import ROOT, SIZE, chain_config

STEPS = 2
PLAIN = """
_base_ = [
    '{root}/configs/_base_/models/segformer_mit-b0.py',
    '{root}/configs/_base_/datasets/scenes.py',
    '{root}/configs/_base_/schedules/scenes_1500.py',
    '{root}/configs/_base_/default_runtime.py',
]
model = dict(
    backbone=dict(embed_dims=4, num_layers=[1] * 4, num_heads=[1, 1, 1, 1], init_cfg=None),
    decode_head=dict(in_channels=[4] * 4, channels=8, num_classes=11),
)
"""
"""SegFormer, narrow, as mmseg has it."""
RECIPE = """
_base_ = ['./plain.py']
from mmdiff2in1.training.recipes import make_self_improving

make_self_improving(
    _base_,
    warmup=True,
    diffusion='{folder}/weights',
    captions='{folder}/scenes/train/captions.jsonl',
    num_calls=2,
    samples_per_image=1,
    samples_per_update=4,
    label_rule=None,
    size={size},
)
"""
PASTE = """
_base_ = ['{root}/configs/baselines/unet_scenes.py']
from mmdiff2in1.training.recipes import make_self_improving

_base_.train_dataloader.dataset.pipeline.insert(2, dict(type='StrongColour'))
layout = dict(type='ObjectPaste', smallest=0.003)
make_self_improving(_base_, preset='paste', samples_per_image=2, samples_per_update=4, layout=layout)
"""


def tiny_configs(folder: Path) -> dict[str, Callable[[], Config]]:
    """Name → what makes the config anew; ``folder`` comes from ``prepare`` of `tiny_chain`."""
    return dict(
        classes=lambda: _quick(chain_config(folder), folder),
        paste=lambda: _paste(folder),
        normals=lambda: _normals(folder),
        tasks=lambda: _tasks(folder),
        plain=lambda: _segformer(folder, 'plain'),
        recipe=lambda: _segformer(folder, 'recipe'),
    )


def _quick(cfg: Config, folder: Path) -> Config:
    """Two steps on scenes of 32 × 32, in one batch of four."""
    data = str(folder / 'scenes')
    wrapped = cfg.train_dataloader.dataset.type == 'SyntheticSampleDataset'
    own = cfg.train_dataloader.dataset.dataset if wrapped else cfg.train_dataloader.dataset
    own.data_root, own.num_labelled = data, 6
    for step in own.pipeline:
        for key in ('scale', 'crop_size'):
            if key in step:
                step[key] = (SIZE, SIZE)
    for part in ('val', 'test'):
        cfg[f'{part}_dataloader'].dataset.data_root = data
    cfg.train_dataloader.batch_size = 4
    cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.update(interval=STEPS, max_keep_ckpts=1)
    model = cfg.model.get('segmentor', cfg.model)
    preprocessor = model.get('data_preprocessor') or cfg.model.data_preprocessor
    if preprocessor.get('size'):
        preprocessor.size = (SIZE, SIZE)
    warmup = (cfg.get('stages') or {}).get('warmup')
    if warmup:
        warmup.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
        warmup.pop('default_hooks', None)
    if wrapped:
        cfg.train_dataloader.dataset.mix = dict(added=2)
    for hook in cfg.get('custom_hooks') or []:
        if hook.type == 'SelfImprovingHook':
            hook.samples_per_update = 4
    creation = (cfg.get('stages') or {}).get('synthesis')
    if creation:
        creation.update(samples_per_image=1)
        if creation.get('diffusion'):
            creation.update(num_calls=2, batch_size=4, size=SIZE, diffusion=str(folder / 'weights'))
            creation.captions = f'{data}/train/captions.jsonl'
    return cfg


def _own(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / 'diff2in1' / f'{name}.py', format_python_code=False)


def _written(folder: Path, name: str, text: str) -> Config:
    file = folder / f'{name}.py'
    file.write_text(text.format(root=ROOT, folder=folder, size=SIZE))
    return Config.fromfile(file, format_python_code=False)


def _paste(folder: Path) -> Config:
    cfg = _quick(_written(folder, 'paste', PASTE), folder)
    cfg.train_dataloader.dataset.dataset.num_labelled = 8
    cfg.model.segmentor.backbone.base_channels = 4
    cfg.model.segmentor.decode_head.update(in_channels=4, channels=4)
    return cfg


def _normals(folder: Path) -> Config:
    cfg = _quick(_own('bae_scenes-normal'), folder)
    cfg.model.segmentor.backbone.update(diffusion=str(folder / 'weights'), detail=None, bf16=False)
    cfg.model.segmentor.neck.update(in_channels=[8, 16, 16], in_strides=[2, 4, 8], out_channels=[4, 4, 6, 6, 16])
    cfg.model.segmentor.decode_head.head.update(in_channels=[4, 4, 6, 6, 16], widths=[16] * 4, point_channels=6)
    return cfg


def _tasks(folder: Path) -> Config:
    cfg = _quick(_own('multitask_scenes'), folder)
    model = cfg.model.segmentor
    model.backbone.update(diffusion=str(folder / 'weights'), detail=None, bf16=False)
    model.neck.update(in_channels=[8, 27, 27], out_channels=8, num_outs=3)
    for head in model.decode_head.head.heads.values():
        head.get('head', head).update(in_channels=[8] * 3, in_index=[0, 1, 2], feature_strides=[2, 4, 8], channels=8)
    cfg.model.label_rule = None
    return cfg


def _segformer(folder: Path, name: str) -> Config:
    plain = _quick(_written(folder, 'plain', PLAIN), folder)
    return plain if name == 'plain' else _quick(_written(folder, 'recipe', RECIPE), folder)
