"""What no entry of a config can be is refused with its place; errors of libraries get the entry they come from."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import Registry
from torch import nn

from mmdiff2in1.core.building import building
from mmdiff2in1.core.error_place import place_of
from mmdiff2in1.training.config_values import check_values

GOOD = dict(
    model=dict(
        type='EncoderDecoder',
        backbone=dict(type=nn.Conv2d, norm_cfg=None, model='a folder', sampler='dense', pipeline='fp16'),
        neck=None,
        decode_head=[dict(type='A')],
    ),
    train_dataloader=dict(batch_size=1, num_workers=0, dataset=dict(type='A', pipeline=[dict(type='B'), print])),
    custom_hooks=[dict(type='C')],
    param_scheduler=dict(type='PolyLR', end=-1),
    optim_wrapper=dict(
        type='OptimWrapper',
        clip_grad=dict(max_norm=1.0, norm_type=float('inf')),
        paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    ),
    val_evaluator=[dict(type='IoUMetric')],
    default_hooks=dict(timer=None, checkpoint=dict(type='CheckpointHook', interval=-1)),
    train_cfg=dict(max_iters=1),
    stages=dict(synthesis=dict(layout=dict(type='ObjectPaste'))),
    anything=float('nan'),
)


def test_what_others_have_is_let_through():
    check_values(Config(GOOD))


@pytest.mark.parametrize(
    ('place', 'value', 'expected'),
    [
        ('model', 3, 'a dictionary'),
        ('train_dataloader', None, 'a dictionary: nothing trains without'),
        ('model.backbone.type', 3, 'the name of a class, or a class'),
        ('model.backbone.norm_cfg', 'BN', 'a dictionary'),
        ('model.backbone.init_cfg', 3, 'a dictionary or a list of them'),
        ('model.backbone.scale', float('nan'), 'a finite number'),
        ('optim_wrapper.clip_grad.max_norm', float('inf'), 'a finite number'),
        ('train_dataloader.batch_size', -4, 'an integer of 1 or more'),
        ('train_dataloader.batch_size', '4', 'an integer of 1 or more'),
        ('train_dataloader.num_workers', -1, 'an integer of 0 or more'),
        ('train_dataloader.dataset.pipeline', 3, 'a dictionary or a list of them'),
        ('train_dataloader.dataset.pipeline.0', 'B', 'a dictionary with a type'),
        ('custom_hooks.0', 3, 'a dictionary with a type'),
        ('model.backbone', None, 'a dictionary with a type'),
        ('model.decode_head.0', dict(a=1), 'a dictionary with a type'),
        ('val_evaluator.0', None, 'a dictionary with a type'),
        ('model.backbone.diffusion', '', 'the path of a file or folder, or None'),
        ('default_hooks.checkpoint.interval', 1.5, 'an integer of -1 or more'),
        ('default_hooks.timer', 3, 'a dictionary with a type, or None'),
        ('train_dataloader', dict(batch_size=4), 'dataset=dict(type=…) in it'),
        ('optim_wrapper', {}, 'optimizer=dict(type=…) in it'),
        ('param_scheduler.eta_min_ratio', -0.01, 'a number of 0 or more'),
        ('optim_wrapper.clip_grad.max_norm', 'abc', 'a number of 0 or more'),
        ('log_level', 'LOUD', 'one of CRITICAL, FATAL, ERROR, WARN, WARNING, INFO, DEBUG, NOTSET'),
        ('stages.synthesis.layout', {}, 'a dictionary with a type, or None'),
    ],
)
def test_what_nothing_can_use(place, value, expected):
    cfg = Config(GOOD)
    *path, last = (int(step) if step.isdigit() else step for step in place.split('.'))
    entry = cfg
    for step in path:
        entry = entry[step]
    entry[last] = value
    with pytest.raises(ValueError) as error:
        check_values(cfg)
    assert str(error.value) == f'{place} is {value!r}; expected {expected}'


PARTS = Registry('parts')


@PARTS.register_module()
class Outer(nn.Module):
    def __init__(self, inner, width=1):
        super().__init__()
        self.inner = PARTS.build(inner)

    def forward(self, x):
        return self.inner(x)


@PARTS.register_module()
class Inner(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width + 0

    def forward(self, x):
        return nn.functional.linear(x, x.new_ones(2, self.width))


@pytest.mark.parametrize(
    ('model', 'place'),
    [
        (dict(type='Outer', inner=dict(type='Inner', width='4')), 'model.inner (Inner)'),
        (dict(type='Outer', inner=dict(type='Inner', depth=4)), 'model.inner (Inner)'),
        (dict(type='Outer', inner=dict(type='Iner')), 'model.inner (Iner)'),
        (dict(type='Outer', inner=dict(width=4)), 'model.inner'),
        (dict(type='Outer', inner=3), 'model (Outer)'),
    ],
)
def test_the_entry_that_cannot_be_built(model, place):
    cfg = Config(dict(seed=1, model=model))
    with pytest.raises(Exception) as error:  # noqa: PT011  whatever the builder raises
        PARTS.build(cfg.model)
    assert place_of(error.value, cfg) == place


def test_the_entry_that_is_at_work():
    cfg = Config(dict(model=dict(type='Outer', inner=dict(type='Inner', width=4))))
    model = PARTS.build(cfg.model)
    with pytest.raises(RuntimeError) as error:
        model(torch.ones(1, 3))
    assert place_of(error.value, cfg) == 'model.inner (Inner)'
    assert place_of(error.value, dict(other=dict(type='Another'))) == ''


def test_errors_of_libraries_get_words():
    cfg = Config(dict(model=dict(type='Outer', inner=3)))
    with (
        pytest.raises(
            ValueError,
            match=r"^model \(Outer\): cfg should be a dict, .*<class 'int'>; correct model$",
        ),
        building(cfg),
    ):
        PARTS.build(cfg.model)
    with pytest.raises(FileNotFoundError, match='^here$'), building(cfg):
        raise FileNotFoundError('here')
