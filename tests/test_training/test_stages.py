"""Stages of a chain: where each goes on from, what the warm-up takes from the wrapper, moments, stores."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from tiny_chain import chain_config
from torch import nn

from mmdiff2in1.engine import (
    ExploiterOptimWrapperConstructor,
    ProgressBarHook,
    SelfImprovingHook,
    SelfImprovingValLoop,
)
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.optimizer_state import carry_optimizer_state
from mmdiff2in1.training.runs import numbers
from mmdiff2in1.training.stages import check_chain, warmup_config
from mmdiff2in1.training.synthesis_stage import SynthesisStage


def test_resume_of_the_config_and_checkpoints_elsewhere(chain_folder, tmp_path):
    """resume=True means each stage for itself, not the one before; a hook may write to another disk (out_dir)."""
    cfg = chain_config(chain_folder, 'baselines')
    cfg.merge_from_dict(
        {
            'resume': True, 'train_cfg.max_iters': 4, 'stages.warmup.train_cfg.max_iters': 6,
            'default_hooks.checkpoint.out_dir': str(tmp_path / 'scratch'),
            'train_cfg.val_interval': 4, 'stages.warmup.train_cfg.val_interval': 6,
        }
    )  # fmt: skip
    cfg.custom_hooks[-1].samples_per_update = 4
    results = train(cfg, tmp_path / 'run')
    assert results['warmup']['iters'] == 6 and results['self_improving']['iters'] == 4
    files = [Path(results[stage]['checkpoint']) for stage in ('warmup', 'self_improving')]
    assert [file.name for file in files] == ['iter_6.pth', 'iter_4.pth'] and all(file.is_file() for file in files)
    run = (tmp_path / 'run').resolve()  # another run leaves its files elsewhere
    assert all(file.parents[1] == (tmp_path / 'scratch').joinpath(*run.parts[1:]) for file in files)
    again = train(cfg, tmp_path / 'run')
    assert again['self_improving']['checkpoint'] == results['self_improving']['checkpoint']


def test_warm_up_takes_what_stands_on_the_wrapper():
    own = dict(type='SegDataPreProcessor', size=(8, 8))
    cfg = Config(
        dict(
            model=dict(
                type='SelfImprovingSegmentor', segmentor=dict(type='EncoderDecoder'), data_preprocessor=own,
                init_cfg=dict(type='Pretrained', checkpoint='x.pth'),
            ),
            train_dataloader=dict(dataset=dict(type='ScenesDataset')),
            optim_wrapper=dict(),
            stages=dict(warmup=dict()),
        )
    )  # fmt: skip
    plain = warmup_config(cfg, Path('x')).model
    assert plain.data_preprocessor == own and plain.init_cfg.checkpoint == 'x.pth'
    cfg.model.segmentor.data_preprocessor = None
    assert warmup_config(cfg, Path('x')).model.data_preprocessor == own
    cfg.model.segmentor.data_preprocessor = dict(type='SegDataPreProcessor', size=(4, 4))
    assert warmup_config(cfg, Path('x')).model.data_preprocessor.size == (4, 4)


def wrapper(decay, flat_decay):
    """A convolution's weight and bias: in one group, or the bias in a group without decay."""
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 2, 1)
    groups = [dict(params=[layer.weight, layer.bias])]
    if not flat_decay:
        groups = [dict(params=[layer.weight]), dict(params=[layer.bias], weight_decay=0)]
    return layer, OptimWrapper(torch.optim.AdamW(groups, lr=0.1, weight_decay=decay))


def test_moments_go_to_their_own_tensors(tmp_path):
    layer, first = wrapper(0.1, flat_decay=False)
    layer(torch.ones(1, 2, 1, 1)).sum().backward()
    first.step()
    torch.save(dict(optimizer=first.optimizer.state_dict()), tmp_path / 'x.pth')

    def carry(flat_decay):
        layer, second = wrapper(0.2, flat_decay)
        runner = SimpleNamespace(optim_wrapper=second, build_optim_wrapper=lambda given: given)
        carry_optimizer_state(runner, tmp_path / 'x.pth')
        return layer, second.optimizer

    other, optimizer = carry(flat_decay=False)
    for mine, theirs in ((other.weight, layer.weight), (other.bias, layer.bias)):
        assert torch.equal(optimizer.state[mine]['exp_avg'], first.optimizer.state[theirs]['exp_avg'])
    assert optimizer.param_groups[0]['weight_decay'] == 0.2
    with pytest.raises(ValueError, match='2 groups .* 1 of .*carry_optimizer=False'):
        carry(flat_decay=True)


def test_a_store_is_looked_at_before_the_warm_up(chain_folder, tmp_path):
    cfg = chain_config(chain_folder)
    cfg.train_dataloader.dataset.num_samples = 13  # 2 of each of 6 images are made
    with pytest.raises(ValueError, match='holds 12 samples, expected at least 13'):
        SynthesisStage(cfg, tmp_path / 'store').check()
    cfg.train_dataloader.dataset.num_samples = 12
    SynthesisStage(cfg, tmp_path / 'store').check()
    cfg.train_dataloader.dataset.store = str(tmp_path / 'typo')
    cfg.stages = ConfigDict(warmup=cfg.stages.warmup, synthesis=None)
    with pytest.raises(FileNotFoundError, match='typo holds no manifest.jsonl'):
        train(cfg, tmp_path / 'run')
    assert not (tmp_path / 'run' / 'warmup').exists()


@pytest.mark.parametrize('change', [{'checkpoint': None}, {'checkpoint.save_last': False}])
@pytest.mark.parametrize('stage', ['', 'stages.warmup.'])
def test_a_stage_without_its_last_checkpoint_is_refused_first(chain_folder, stage, change):
    cfg = chain_config(chain_folder, 'baselines')
    cfg.merge_from_dict({f'{stage}default_hooks.{key}': value for key, value in change.items()})
    with pytest.raises(ValueError, match='default_hooks.checkpoint is .*from the last checkpoint'):
        check_chain(cfg)


@pytest.mark.parametrize('setting', [dict(unlabelled='photos'), dict(scenes=dict(type='recombined'))])
def test_images_without_a_kind_of_scene_are_refused_where_the_model_must_be_told(chain_folder, setting):
    cfg = chain_config(chain_folder, 'diff2in1')
    cfg.stages.synthesis.update(setting)
    check_chain(cfg)
    cfg.model.segmentor.type = 'SceneConditionedEstimator'
    with pytest.raises(ValueError, match=f'{next(iter(setting))} gives images without a kind of scene'):
        check_chain(cfg)


def test_metrics_that_are_no_numbers_are_passed_over():
    found = numbers({'mIoU': np.float32(0.5), 'IoU': np.ones(3), 'note': 'two words', 'n': torch.tensor(3), 'of': {}})
    assert found == {'mIoU': 0.5, 'n': 3.0}


def tiny_chain_of(**settings) -> Config:
    """The smallest config that a warm-up can be taken from."""
    return Config(
        dict(
            model=dict(type='SelfImprovingSegmentor', segmentor=dict(type='EncoderDecoder')),
            train_dataloader=dict(dataset=dict(type='ScenesDataset')),
            optim_wrapper=dict(),
        )
        | dict(stages=dict(warmup={}))
        | settings
    )


@pytest.mark.parametrize('kind', ['SelfImprovingValLoop', 'mmseg.SelfImprovingValLoop', SelfImprovingValLoop])
def test_warm_up_evaluates_as_the_config_says(kind):
    cfg = tiny_chain_of(
        val_cfg=dict(type=kind, fp16=True, exploiter=False), test_cfg=dict(type='SelfImprovingTestLoop', fp16=True)
    )
    plain = warmup_config(cfg, Path('x'))
    assert dict(plain.val_cfg) == dict(type='ValLoop', fp16=True)
    assert dict(plain.test_cfg) == dict(type='TestLoop', fp16=True)
    assert cfg.val_cfg.exploiter is False, 'the config itself is not touched'


def test_a_loop_of_the_users_stays():
    own = dict(type='TimedValLoop', budget=3)
    assert dict(warmup_config(tiny_chain_of(val_cfg=own), Path('x')).val_cfg) == own
    assert dict(warmup_config(tiny_chain_of(val_cfg=dict()), Path('x')).val_cfg) == {}
    assert warmup_config(tiny_chain_of(val_cfg=None), Path('x')).val_cfg is None
    cfg = tiny_chain_of(
        val_cfg=dict(type='SelfImprovingValLoop'), stages=dict(warmup=dict(val_cfg=dict(exploiter=False, fp16=True)))
    )
    assert dict(warmup_config(cfg, Path('x')).val_cfg) == dict(type='ValLoop', fp16=True)
    train_cfg = dict(type='IterBasedTrainLoop', max_iters=9, val_begin=3, dynamic_intervals=[(5, 1)])
    cfg = tiny_chain_of(train_cfg=train_cfg, stages=dict(warmup=dict(train_cfg=dict(max_iters=6))))
    assert dict(warmup_config(cfg, Path('x')).train_cfg) == train_cfg | dict(max_iters=6)


AVERAGES = [
    dict(type='SelfImprovingHook', alpha=0.9),
    dict(type='mmseg.SelfImprovingHook', alpha=0.9),
    dict(type=SelfImprovingHook, alpha=0.9),
    SelfImprovingHook(alpha=0.9),
]


@pytest.mark.parametrize('average', AVERAGES)
@pytest.mark.parametrize('container', [list, tuple])
def test_warm_up_loses_only_the_average(average, container):
    others = [dict(type='ExactResumeHook'), dict(type='EMAHook', momentum=0.1), dict(type=ProgressBarHook)]
    hooks = container([others[0], average, *others[1:]])
    assert list(warmup_config(tiny_chain_of(custom_hooks=hooks), Path('x')).custom_hooks) == others
    # A list of the warm-up's own takes the place of the config's.
    cfg = tiny_chain_of(custom_hooks=others[:1], stages=dict(warmup=dict(custom_hooks=hooks)))
    assert list(warmup_config(cfg, Path('x')).custom_hooks) == others
    default = dict(timer=dict(type='IterTimerHook'), logger=None, average=average)
    plain = warmup_config(tiny_chain_of(default_hooks=default, custom_hooks=None), Path('x'))
    assert dict(plain.default_hooks) == dict(timer=dict(type='IterTimerHook'), logger=None)
    assert plain.custom_hooks == []


@pytest.mark.parametrize('constructor', ['ExploiterOptimWrapperConstructor', ExploiterOptimWrapperConstructor])
def test_warm_up_optimizes_what_it_has(constructor):
    own = dict(constructor=constructor, base_constructor='LearningRateDecayOptimizerConstructor', optimizer=dict(lr=1))
    plain = warmup_config(tiny_chain_of(optim_wrapper=own), Path('x')).optim_wrapper
    assert dict(plain) == dict(constructor='LearningRateDecayOptimizerConstructor', optimizer=dict(lr=1))
