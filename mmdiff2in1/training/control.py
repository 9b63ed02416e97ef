"""The control that a gain is measured against: no synthetic samples, everything else alike."""

import copy

from mmengine.config import Config

from mmdiff2in1.datasets import BatchMix

from .drop_last import without_batch_sampler


def equal_control(cfg: Config) -> Config:
    """The config without synthetic samples: as many images per step, all of them real ones."""
    control = copy.deepcopy(cfg)
    stages = cfg.get('stages') or {}
    control.stages = {name: copy.deepcopy(stages[name]) for name in ('warmup',) if stages.get(name) is not None}
    control.model.pop('label_rule', None)
    loader = control.train_dataloader
    mix = BatchMix.parse(loader.dataset.get('mix', 'uniform'))
    loader.dataset.update(store=None, mix='uniform', labels='none')
    without_batch_sampler(loader)
    if control.get('global_batch_size'):
        control.global_batch_size = sum(mix.composition(control.global_batch_size))
    if loader.get('batch_size'):
        loader.batch_size = sum(mix.composition(loader.batch_size))
    return control
