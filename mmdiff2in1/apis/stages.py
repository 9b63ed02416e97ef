"""The stages of a run as ordinary mmengine configs: warm-up and self-improving.

θ_C is `creator`, θ_E `exploiter`.
"""

import copy
import hashlib
import json
from pathlib import Path

from mmengine.config import Config, ConfigDict

STAGES = ('warmup', 'synthesis', 'self_improving', 'test')
CHAIN_KEYS = ('carry_optimizer',)
"""Settings of a stage that are no config keys."""


def check_chain(cfg: Config) -> None:
    """Refuses a config that the chain cannot run, before anything starts.

    Raises:
        ValueError: No self-improving model, unknown stages, or a stage without a length.
    """
    if cfg.model.get('type') != 'SelfImprovingSegmentor':
        raise ValueError(
            f'model.type is {cfg.model.get("type")!r}; the chain trains a SelfImprovingSegmentor. Wrap yours: '
            "model = dict(_delete_=True, type='SelfImprovingSegmentor', segmentor=_base_.model)"
        )
    if 'stages' not in cfg:
        raise ValueError('the config has no stages = dict(warmup=…, synthesis=…); see configs/diff2in1/vpd_scenes.py')
    unknown = set(cfg.stages) - {'warmup', 'synthesis'}
    if unknown:
        raise ValueError(f'unknown stages {sorted(unknown)}; known: warmup, synthesis (the config itself is the third)')
    wrapper = cfg.train_dataloader.dataset
    if cfg.stages.get('synthesis') and wrapper.get('type') != 'SyntheticSampleDataset':
        raise ValueError(
            f'stages.synthesis makes samples, but train_dataloader.dataset is a {wrapper.get("type")}; wrap it: '
            "dataset = dict(_delete_=True, type='SyntheticSampleDataset', dataset=_base_.train_dataloader.dataset)"
        )


def warmup_config(cfg: Config, work_dir: Path) -> Config:
    """The plain segmentor on the real samples: the config without what is self-improving, plus ``stages.warmup``."""
    plain = copy.deepcopy(cfg)
    plain.model = plain.model.segmentor
    _without_samples(plain)
    plain.val_cfg = dict(type='ValLoop')
    plain.test_cfg = dict(type='TestLoop')
    plain.custom_hooks = [hook for hook in plain.get('custom_hooks', []) if hook['type'] != 'SelfImprovingHook']
    if plain.optim_wrapper.get('constructor') == 'ExploiterOptimWrapperConstructor':
        base = plain.optim_wrapper.pop('base_constructor', None)
        plain.optim_wrapper.pop('constructor')
        if base:
            plain.optim_wrapper.constructor = base
    changes = {k: v for k, v in cfg.stages.warmup.items() if k not in CHAIN_KEYS}
    plain.merge_from_dict({k: v for k, v in changes.items() if not isinstance(v, list)})
    for key, value in changes.items():
        if isinstance(value, list):
            plain[key] = value
    plain.pop('stages')
    return _placed(plain, work_dir)


def self_improving_config(cfg: Config, work_dir: Path, warmup: Path | None, store: Path | None) -> Config:
    """The config itself, over a store, starting from the warm-up's checkpoint."""
    stage = copy.deepcopy(cfg)
    if store is None:
        _without_samples(stage)
    else:
        stage.train_dataloader.dataset.store = str(store)
    if warmup is not None:
        stage.load_from = str(warmup)
    stage.pop('stages')
    return _placed(stage, work_dir)


def _without_samples(cfg: Config) -> None:
    """Keeps the wrapper, which seeds the augmentation, but without store and mix: the wrapped set, bit for bit."""
    dataset = cfg.train_dataloader.dataset
    if dataset.get('type') == 'SyntheticSampleDataset':
        cfg.train_dataloader.dataset = ConfigDict(
            type=dataset.type, dataset=dataset.dataset, seed=dataset.get('seed', 0)
        )
        cfg.train_dataloader.pop('batch_sampler', None)


def _placed(cfg: Config, work_dir: Path) -> Config:
    cfg.work_dir = str(work_dir)
    return cfg


def fingerprint(cfg: Config) -> str:
    """Hash of all that decides a stage's result: the config without places and names."""
    decisive = {
        k: v for k, v in cfg.to_dict().items() if k not in ('work_dir', 'resume', 'launcher', 'filename', 'log_level')
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()
