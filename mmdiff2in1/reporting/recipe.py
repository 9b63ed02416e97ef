"""How a run was made, in plain words; versions and commands."""

import platform
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

import mmdiff2in1
from mmdiff2in1.core.config_file import config_of_run
from mmdiff2in1.core.names import type_name
from mmdiff2in1.datasets import BatchMix

from .label_rule import rule_in_words
from .work_dir import WorkDir

DISTRIBUTIONS = ('torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation', 'diffusers', 'transformers', 'numpy')


def recipe_in_words(cfg: Config) -> list[str]:
    """Sentences on model, warm-up, creation, mixing, labels, loss and average, as far as the config has them."""
    segmentor = cfg.model.get('segmentor', cfg.model)
    parts = [
        type_name(segmentor[key]) for key in ('backbone', 'decode_head') if isinstance(segmentor.get(key), Mapping)
    ]
    said = [f'Model: {type_name(segmentor)}' + (f' of {" and ".join(parts)}' if parts else '') + '.']
    stages = cfg.get('stages') or {}
    warmup = stages.get('warmup')
    if warmup:
        said.append(f'Warm-up on the real images alone: {_length(warmup.get("train_cfg") or cfg.get("train_cfg"))}.')
    elif cfg.get('load_from'):
        said.append(f'It starts from {cfg.load_from}.')
    if 'stages' not in cfg:
        return [*said, f'Training: {_length(cfg.get("train_cfg"))}, {_batch(cfg)}.', *_seed(cfg)]
    said.append(_creation(stages.get('synthesis')))
    said.append(f'Self-improving: {_length(cfg.get("train_cfg"))}, {_batch(cfg)}.')
    if type_name(cfg.model) == 'SelfImprovingSegmentor':
        said += [_labels(cfg.model), _average(cfg)]
    return [*said, *_seed(cfg)]


def versions() -> dict[str, str]:
    """Of this package and those that decide numbers, as they are installed now; and the machine."""
    found = {'mmdiff2in1': mmdiff2in1.__version__, 'Python': platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = 'not installed under this name'
    found['machine'] = platform.platform()
    found['device'] = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    return found


def commands(cfg: Config, run: WorkDir) -> dict[str, str]:
    """Commands by title: to train this again, to write this page again, and the one that has written it."""
    whole = config_of_run(run.path)  # with the changes of --cfg-options
    config = whole if whole.is_file() else cfg.filename or 'CONFIG'
    folder = shlex.quote(str(run.path))
    return {
        'Train it, or go on': f'mmdiff2in1 train {shlex.quote(str(config))} --work-dir {folder} --resume',
        'Write this page again': f'mmdiff2in1 report {folder}',
        'This page was written by': shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _length(loop: Mapping[str, Any] | None) -> str:
    loop = loop or {}
    if loop.get('max_iters'):
        return f'{loop["max_iters"]} iterations'
    return f'{loop["max_epochs"]} epochs' if loop.get('max_epochs') else 'of unknown length'


def _batch(cfg: Config) -> str:
    loader = cfg.get('train_dataloader') or {}
    size, dataset = loader.get('batch_size'), loader.get('dataset') or {}
    if size is None:
        return f'{cfg.get("global_batch_size", "an unknown number of")} images in a step of all processes'
    if type_name(dataset) != 'SyntheticSampleDataset':
        return f'{size} images in a step of a process'
    mix = BatchMix.parse(dataset.get('mix', 'uniform'))
    real, created = mix.composition(size)
    if not mix.exact:
        return f'{real} images in a step of a process, drawn from real and created ones alike'
    return f'{real} real and {created} created images in a step of a process'


def _creation(settings: Mapping[str, Any] | None) -> str:
    if not settings:
        return 'No images are created.'
    number = settings.get('samples_per_image')
    many = (
        f'{number} for each labelled image' if number else f'{settings.get("num_samples", "an unknown number")} in all'
    )
    if settings.get('layout'):
        how = f'composed by {type_name(settings["layout"])}'
        how += f' and redrawn by {_name(settings["diffusion"])}' if settings.get('diffusion') else ''
    elif settings.get('diffusion'):
        how = f'by {_name(settings["diffusion"])}'
    else:
        return 'No images are created; beside the labelled ones are unlabelled images.'
    T = settings.get('T', 600)
    said = f'Created images: {many}, {how}'
    if settings.get('diffusion'):
        calls = f'{settings.get("num_calls", 20)} calls of the U-Net with the solver {settings.get("solver", "ddim")}'
        said += f', noised to T = {T if isinstance(T, int | str) else _levels(T)}, {calls}'
        said += f', guidance {settings.get("guidance_scale", 1.0):g}'
    if settings.get('scenes'):
        said += f', as new scenes ({type_name(settings["scenes"])})'
    return said + '.'


def _levels(T: Any) -> str:
    if isinstance(T, Mapping):
        return ', '.join(f'{key} {value}' for key, value in T.items())
    return ', '.join(map(str, T))


def _labels(model: Mapping[str, Any]) -> str:
    weight = model.get('synthetic_weight', 1.0)
    weights = ', '.join(f'{k} {v:g}' for k, v in weight.items()) if isinstance(weight, Mapping) else f'{weight:g}'
    return f'Created images are taught with {rule_in_words(model)}; their loss has weight {weights}.'


def _average(cfg: Config) -> str:
    hooks = [*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()]
    hook = next((each for each in hooks if each and type_name(each) == 'SelfImprovingHook'), None)
    if hook is None:
        return 'There is no average that would make θ_C out of θ_E.'
    samples = f'after every {hook.get("samples_per_update", 40)} samples'
    if hook.get('remaining') is not None:
        return (
            f'θ_C is the moving average of θ_E {samples}; {hook["remaining"]:.1%} of the first θ_C is left at the end.'
        )
    return f'θ_C is the moving average of θ_E {samples}, with α = {hook.get("alpha")}.'


def _seed(cfg: Config) -> list[str]:
    seed = (cfg.get('randomness') or {}).get('seed')
    return [f'Seed: {seed}.'] if seed is not None else ['The config sets no seed.']


def _name(diffusion: Any) -> str:
    return 'a diffusion model of random weights' if isinstance(diffusion, Mapping) else str(diffusion)
