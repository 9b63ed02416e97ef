"""A config of mmseg at a tiny size: its own in all but size, data and steps."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from .tiny_data import make_data

BATCH, STEPS = 2, 3
"""Images of a batch, steps of the optimizer."""
SIZES = ('crop_size', 'scale', 'scales', 'size', 'img_size', 'stride', 'size_divisor', 'max_size')
WIDTHS, WIDE = ('channels', 'embed_dims', 'embed_dim'), 64
"""Ends of the keys of widths, and the least number of channels that is made fewer."""
BASE = 64
"""Channels of the first stage of a ResNet."""
SMALLEST = 33
"""Numbers below are no sizes of images: strides of layers, size divisors of networks."""


def make_small(cfg: Config, data: Path, side: int = 32, narrower: int = 1) -> None:
    """Changes a config in place.

    Weights of others are not fetched, crops are `side` pixels on the shorter side and all sizes follow, layers
    are so many times `narrower`, a batch has `BATCH` images,
    the schedule `STEPS` steps and no warm-up, workers are the process itself; on a CPU synchronised batch norm is
    batch norm, and float16 is bfloat16.

    Args:
        cfg: As `read_config` gives it.
        data: Folder for the images and labels that are made.
        side: In pixels.
        narrower: Divides the channels of the model.
    """
    cfg.randomness = dict(seed=0)
    _without_weights(cfg.model)
    factor = side / min(_crop(cfg))
    for part in (cfg.model, *(cfg[name] for name in _loaders(cfg))):
        _scale(part, factor)
    _norm(cfg.model)
    if narrower > 1:
        if cfg.model.backbone.type.startswith('ResNe'):
            cfg.model.backbone.setdefault('base_channels', BASE)
        _narrow(cfg.model, narrower)
    make_data(
        cfg, data, cfg.model.decode_head[-1].num_classes if isinstance(cfg.model.decode_head, list) else _classes(cfg)
    )
    for name in _loaders(cfg):
        cfg[name].update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.batch_size = BATCH
    _shorten(cfg)
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and not torch.cuda.is_available():
        cfg.optim_wrapper.pop('loss_scale', None)
        cfg.optim_wrapper.update(type='BF16OptimWrapper')
    cfg.visualizer.vis_backends = None  # no curves of three steps
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='RecordingHook')]


def _loaders(cfg: Config) -> list[str]:
    return [name for name in ('train_dataloader', 'val_dataloader', 'test_dataloader') if cfg.get(name)]


def _classes(cfg: Config) -> int:
    head = cfg.model.decode_head
    return (head[-1] if isinstance(head, list) else head).get('num_classes', 2)


def _without_weights(part: Any) -> None:
    """Takes out what names weights of others."""
    if isinstance(part, dict):
        if part.get('pretrained') is not None:
            part['pretrained'] = None
        if (part.get('init_cfg') or {}) and 'checkpoint' in str(part['init_cfg']):
            part['init_cfg'] = None
        part = part.values()
    if not isinstance(part, str):
        for inner in part if hasattr(part, '__iter__') else ():
            _without_weights(inner)


def _crop(cfg: Config) -> tuple[int, ...]:
    size = cfg.model.get('data_preprocessor', {}).get('size')
    size = size or cfg.get('crop_size') or next(_found(cfg.train_dataloader, 'crop_size'))
    return tuple(size) if isinstance(size, list | tuple) else (size,)


def _found(part: Any, key: str) -> Any:
    if isinstance(part, dict):
        if key in part:
            yield part[key]
        part = list(part.values())
    if isinstance(part, list | tuple):
        for inner in part:
            yield from _found(inner, key)


def _scale(part: Any, factor: float) -> None:
    """Multiplies the sizes of images in a part of a config."""
    if isinstance(part, dict):
        for key, value in part.items():
            part[key] = _scaled(value, factor) if key in SIZES else value
            _scale(value, factor)
    elif isinstance(part, list | tuple):
        for inner in part:
            _scale(inner, factor)


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_scaled(each, factor) for each in value)
    return round(value * factor) if isinstance(value, int) and value >= SMALLEST else value


def _narrow(part: Any, narrower: int) -> None:
    if isinstance(part, dict):
        for key, value in part.items():
            if key.endswith(WIDTHS):
                part[key] = _divided(value, narrower)
        part = list(part.values())
    if isinstance(part, list | tuple):
        for inner in part:
            _narrow(inner, narrower)


def _divided(value: Any, narrower: int) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_divided(each, narrower) for each in value)
    return value // narrower if isinstance(value, int) and value >= WIDE else value


def _norm(part: Any) -> None:
    if isinstance(part, dict):
        if part.get('type') == 'SyncBN' and not torch.cuda.is_available():
            part['type'] = 'BN'
        part = list(part.values())
    if isinstance(part, list | tuple):
        for inner in part:
            _norm(inner)


def _shorten(cfg: Config) -> None:
    """The schedule in `STEPS` steps; one counted in epochs stays so."""
    by_epoch = cfg.train_cfg.get('type') == 'EpochBasedTrainLoop' or cfg.train_cfg.get('by_epoch', False)
    if by_epoch:
        cfg.train_cfg.update(max_epochs=2, val_interval=1)
    else:
        cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
    length = 2 if by_epoch else STEPS
    given = cfg.get('param_scheduler') or []
    given = [given] if isinstance(given, dict) else given
    main = [each for each in given if each.get('type') != 'LinearLR'] or given
    cfg.param_scheduler = [ConfigDict(each, begin=0, end=length) for each in main]
    for each in cfg.param_scheduler:
        if 'T_max' in each:
            each.T_max = length
    cfg.default_hooks.checkpoint.interval = 1 if by_epoch else STEPS
    cfg.default_hooks.logger.interval = 1
