"""What is wrong with any stage is found before the first one starts, and the rehearsal leaves nothing behind."""

import copy
import random

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from tiny_chain import chain_config

from mmdiff2in1.core.building import explained
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.rehearsal import rehearse
from mmdiff2in1.training.stages import self_improving_config, warmup_config

HOOK = dict(type='SelfImprovingHook', alpha=0.9, samples_per_update=4)
WRONG = [
    (dict(model__synthetic_weight=-1.0), 'self-improving stage cannot run: .*synthetic_weight'),
    (dict(model__label_rule=dict(type='TeacherLabel', min_confidence=2.0)), 'min_confidence=2.0: expected a number'),
    (dict(model__normalize_by='real', train_dataloader__dataset__mix='uniform', train_dataloader__batch_sampler=None),
     'a batch of created samples alone'),
    (dict(model__segmentor__decode_head__head__in_channels=[8, 8, 9]),
     r'warm-up cannot run: the first training samples: decode_head.in_channels is .*, but the neck gives \[8, 8, 8\]'),
    (dict(custom_hooks=[dict(HOOK, alpha=None, remaining=2)]), 'self-improving stage.*remaining is 2'),
    (dict(custom_hooks=[dict(HOOK, samples_per_update=10**9)], train_cfg__max_iters=100),
     'self-improving stage.*make no update'),
    (dict(custom_hooks=[]), 'has 0 hooks SelfImprovingHook, expected one'),
    (dict(custom_hooks=[HOOK, HOOK]), 'has 2 hooks SelfImprovingHook, expected one'),
    (dict(custom_hooks=[HOOK, dict(type='NoSuchHook')]), 'warm-up cannot run: model, hooks.*NoSuchHook'),
    (dict(stages__warmup__train_cfg__max_iters=0), 'stages.warmup.train_cfg.max_iters is 0; expected an integer of 1'),
    (dict(train_cfg__max_iters=0), 'train_cfg.max_iters is 0; expected an integer of 1 or more'),
    (dict(train_cfg__max_iter=5), "train_dataloader or train_cfg: .*unexpected keyword argument 'max_iter'"),
    (dict(stages__warmup__train_cgf=dict(max_iters=5)), "stages.warmup has a key 'train_cgf'"),
    (dict(param_schedulers=[]), "key 'param_schedulers', which nothing reads"),
    (dict(optim_wrapper__optimizer__lr=float('inf')), 'optim_wrapper.optimizer.lr is inf; expected a finite number'),
    (dict(optim_wrapper__optimizer__lr=-1e-3), 'optim_wrapper.optimizer.lr is -0.001; expected a number of 0 or more'),
    (dict(optim_wrapper__optimizer__lr='fast'), "optim_wrapper.optimizer.lr is 'fast'; expected a number of 0 or more"),
    (dict(optim_wrapper__optimizer__type='AdamWW'), 'cannot run: optim_wrapper: .*AdamWW.*did you mean Adam'),
    (dict(optim_wrapper__accumulative_counts=4, default_hooks__checkpoint__interval=6),
     'interval=6 and accumulative_counts=4.*choose a multiple of 4'),
    (dict(param_scheduler=[dict(type='PolyLRR')]), 'stage cannot run: param_scheduler: .*PolyLRR.*did you mean PolyLR'),
    (dict(val_evaluator__iou_metrics=['mIoUU']), 'val_evaluator.*iou_metrics has mIoUU; known: mIoU, mDice, mFscore'),
    (dict(test_evaluator__type='IoUMetrik'), 'cannot run: test_dataloader, test_evaluator.*IoUMetrik'),
    (dict(default_hooks__checkpoint__save_best='mIou', default_hooks__checkpoint__rule='greater'),
     "save_best waits for 'mIou', which no metric gives; there are aAcc, mIoU"),
    (dict(val_dataloader__batchsize=3), 'val_dataloader.*batchsize'),
    (dict(stages__synthesis__batch_size=0), 'batch_size'),
    (dict(stages__synthesis__guidance_scale=float('nan')), 'stages.synthesis.guidance_scale is nan'),
    (dict(stages__synthesis__num_calls=0), 'num_calls'),
    (dict(stages__synthesis__samples_per_image=10**8), 'samples_per_image'),
    (dict(stages__synthesis__filters=dict(contrast=(float('nan'), None))), 'synthesis.filters.contrast.0 is nan'),
    (dict(stages__synthesis__filters=dict(contrast=(127, None))), 'filters refuse all of the first 12 created samples'),
    (dict(stages__warmup=None, train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1)),
     'StreamSampler of train_dataloader has no end'),
    (dict(stages__warmup=None, model__segmentor__decode_head__head__loss_decode=dict(type='OhemCrossEntropy')),
     r"'weight'; look at .*decode_head.head.loss_decode .OhemCrossEntropy.; the config fails so before it is wrapped"),
    (dict(train_dataloader__dataset__dataset__pipeline__0__color_type='grayscale'),
     "train_dataloader: LoadImageFromFile.color_type.*'grayscale'"),
    (dict(default_hooks__checkpoint__by_eopch=False), 'default_hooks.checkpoint has by_eopch, which nothing reads'),
    (dict(optim_wrapper__clip_grad=dict(max_norms=1.0)), r'clip_grad: max_norms .did you mean max_norm'),
    (dict(val_dataloader__dataset__pipeline=[dict(type='LoadImageFromFile')]),
     'first validation sample: a sample of val_dataloader holds .*end its pipeline with PackSegInputs'),
    (dict(train_dataloader__dataset__dataset__pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]),
     'first training samples: they hold no label; expected a transform'),
    (dict(optim_wrapper__clip_grad=3), r'optim_wrapper \(OptimWrapper\): .*; correct optim_wrapper$'),
]  # fmt: skip


def changed(folder, changes):
    cfg = chain_config(folder)
    for key, value in changes.items():
        *path, last = (int(step) if step.isdigit() else step for step in key.split('__'))
        place = cfg
        for name in path:
            place = place[name]
        place[last] = value
    return cfg


@pytest.mark.parametrize(
    ('changes', 'message'), WRONG, ids=lambda value: next(iter(value)) if type(value) is dict else ''
)
def test_found_before_the_first_stage(chain_folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(changed(chain_folder, changes), tmp_path)
    assert not [path for path in tmp_path.rglob('*') if path.suffix in ('.pth', '.png')]
    assert not (tmp_path / 'warmup' / 'begun.json').exists()


def test_a_start_that_is_not_finite_is_refused(chain_folder, straight, tmp_path):
    cfg = chain_config(chain_folder)
    cfg.stages.pop('warmup')
    checkpoint = torch.load(straight[0] / 'warmup' / 'iter_20.pth', weights_only=False)
    next(value for key, value in checkpoint['state_dict'].items() if 'conv_seg' in key)[:] = float('nan')
    cfg.load_from = str(tmp_path / 'nan.pth')
    torch.save(checkpoint, cfg.load_from)
    with pytest.raises(ValueError, match=r'stage cannot run: load_from=\S*nan\.pth: \S*conv_seg.*not finite'):
        train(cfg, tmp_path / 'run')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (torch.ones(3), 'found Tensor, expected a checkpoint: tensors by name'),
        (dict(state_dict=dict(weight=3)), 'found weight in its state_dict, expected'),
        (dict(state_dict=dict(weight=torch.ones(3))), 'does not fit the .* of the config'),
    ],
)
def test_a_start_that_does_not_fit_is_named(chain_folder, tmp_path, content, message):
    cfg = chain_config(chain_folder)
    cfg.load_from = str(tmp_path / 'start.pth')
    torch.save(content, cfg.load_from)
    with pytest.raises(ValueError, match=rf'(?s)warm-up cannot run: load_from=\S*start\.pth: .*{message}'):
        train(cfg, tmp_path / 'run')


def test_nothing_stays(chain_folder, tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr('tempfile.tempdir', None)
    cfg = chain_config(chain_folder)
    stages = {
        'warm-up': warmup_config(cfg, tmp_path / 'a'),
        'last': self_improving_config(cfg, tmp_path / 'b', None, None),
    }
    before = copy.deepcopy({title: stage.to_dict() for title, stage in stages.items()})
    logger = MMLogger.get_instance('someone', log_level='INFO')
    hubs = list(MessageHub._instance_dict)
    torch.manual_seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    rehearse(stages)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    assert {title: stage.to_dict() for title, stage in stages.items()} == before
    assert MMLogger.get_current_instance() is logger and list(MessageHub._instance_dict) == hubs
    assert not list(tmp_path.iterdir())


def test_drop_last_follows_the_batch_sampler(chain_folder, tmp_path):
    """torch refuses it in a loader with a batch sampler; the stages without one have it in the loader."""
    for place in ('loader', 'batch sampler'):
        cfg = chain_config(chain_folder)
        loader = cfg.train_dataloader
        loader.batch_sampler = dict(type='MixedBatchSampler')
        (loader if place == 'loader' else loader.batch_sampler).drop_last = True
        first = warmup_config(cfg, tmp_path / 'a').train_dataloader
        assert first.drop_last is True and 'batch_sampler' not in first
        last = self_improving_config(cfg, tmp_path / 'b', None, tmp_path / 'store').train_dataloader
        assert last.batch_sampler.drop_last is True and 'drop_last' not in last
    theirs = ValueError('batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last')
    said = explained(theirs, {})
    assert "batch_sampler=dict(type='MixedBatchSampler', drop_last=True)" in said
