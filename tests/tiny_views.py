"""Stages that read cached views, a few steps long, and what they leave behind."""

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tiny_chain import chain_config

from mmdiff2in1.training.cached_views import with_cached_views
from mmdiff2in1.training.runs import build_runner, resume_where_possible, unwrapped
from mmdiff2in1.training.stages import self_improving_config, warmup_config

STEPS, BATCH, LABELLED = 4, 3, 6
RANDOM = ('RandomResize', 'RandomCrop', 'RandomFlip', 'DenseRandomFlip', 'PhotoMetricDistortion')


def warmup(folder: Path, work_dir: Path, cfg: Config | None = None, **views) -> Config:
    """The warm-up of a tiny chain, on 6 images in batches of 3; `folder` comes from `prepare` of `tiny_chain`."""
    return _short(warmup_config(chain_config(folder) if cfg is None else cfg, work_dir / 'warmup'), views)


def self_improving(folder: Path, work_dir: Path, store: Path, **views) -> Config:
    """The self-improving stage over a store: 3 real and 2 created images in every batch."""
    cfg = chain_config(folder)
    cfg.model.label_rule = None
    next(hook for hook in cfg.custom_hooks if hook.type == 'SelfImprovingHook').samples_per_update = BATCH + 2
    return _short(self_improving_config(cfg, work_dir / 'self_improving', None, store), views)


def without_chance(cfg: Config) -> Config:
    """The config without random transforms."""
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    cfg.train_dataloader.dataset.dataset.pipeline = [step for step in pipeline if step.type not in RANDOM]
    return cfg


def train(cfg: Config, steps: int = STEPS) -> tuple[list[dict], dict[str, torch.Tensor], object]:
    """Losses of every step, weights at the end, and the model; goes on from a checkpoint that is there."""
    init_default_scope('mmseg')
    cfg.train_cfg.max_iters = steps
    cfg.train_cfg.pop('val_interval', None)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    resume_where_possible(cfg)
    runner = build_runner(with_cached_views(cfg))
    seen, step = [], runner.model.train_step

    def watched(data, optim_wrapper):
        seen.append({name: float(value.detach()) for name, value in step(data, optim_wrapper).items()})
        return seen[-1]

    runner.model.train_step = watched
    runner.train()
    return seen, unwrapped(runner.model).state_dict(), runner.model


def files(place: Path) -> dict[str, bytes]:
    """Name → content of all views below a folder."""
    return {f'{file.parent.name}/{file.name}': file.read_bytes() for file in sorted(place.rglob('*.safetensors'))}


def same(a: Mapping, b: Mapping) -> bool:
    """True if both hold the same tensors, to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _short(cfg: Config, views: dict) -> Config:
    cfg.train_dataloader.batch_size = BATCH
    cfg.default_hooks.checkpoint.update(interval=100, max_keep_ckpts=1)
    if views:
        cfg.cached_views = dict(folder=str(Path(cfg.work_dir).parent / 'views'), **views)
    return cfg
