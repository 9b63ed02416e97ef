"""Stages of a chain: where each goes on from, what the warm-up takes from the wrapper, moments, stores."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from tiny_chain import chain_config
from torch import nn

from mmdiff2in1.training.chain import train
from mmdiff2in1.training.optimizer_state import carry_optimizer_state
from mmdiff2in1.training.stages import warmup_config
from mmdiff2in1.training.synthesis_stage import check_creation


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
        check_creation(cfg, tmp_path / 'store')
    cfg.train_dataloader.dataset.num_samples = 12
    check_creation(cfg, tmp_path / 'store')
    cfg.train_dataloader.dataset.store = str(tmp_path / 'typo')
    cfg.stages = ConfigDict(warmup=cfg.stages.warmup, synthesis=None)
    with pytest.raises(FileNotFoundError, match='typo holds no manifest.jsonl'):
        train(cfg, tmp_path / 'run')
    assert not (tmp_path / 'run' / 'warmup').exists()
