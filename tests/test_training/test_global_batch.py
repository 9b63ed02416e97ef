"""A batch size of all processes together, and what the chain says of processes that cannot share it."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from tiny_ade20k import ROOT
from torch import nn

from mmdiff2in1.training.chain import build_runner
from mmdiff2in1.training.global_batch import split_global_batch
from mmdiff2in1.training.stages import check_chain


@pytest.mark.parametrize(('processes', 'share'), [(1, 16), (2, 8), (8, 2), (16, 1)])
def test_each_process_gets_its_share(processes, share):
    cfg = Config.fromfile(ROOT / 'configs/baselines/vpd_ade20k.py')
    split_global_batch(cfg, processes)
    assert cfg.train_dataloader.batch_size == share
    split_global_batch(cfg, processes)  # of a resumed run
    assert cfg.train_dataloader.batch_size == share


def test_a_test_needs_no_share(monkeypatch):
    """Eight processes may test what four have trained."""
    cfg = Config.fromfile(ROOT / 'configs/diff2in1/vpd_ade20k.py')
    cfg.update(train_cfg=None, val_cfg=None, test_cfg=None, launcher='none', work_dir='unused')
    monkeypatch.setattr('mmdiff2in1.training.chain.get_world_size', lambda: 8)
    monkeypatch.setattr(
        'mmdiff2in1.training.runs.Runner.from_cfg', lambda given: SimpleNamespace(cfg=given, model=nn.Module())
    )
    assert build_runner(cfg).cfg.train_dataloader.batch_size == 2


def test_without_it_mmengines_batch_size_counts():
    cfg = Config(dict(train_dataloader=dict(batch_size=3)))
    split_global_batch(cfg, 8)
    assert cfg.train_dataloader.batch_size == 3


def test_a_stage_that_cannot_be_shared_is_found_before_the_first():
    """Warm-up with 16 runs on eight processes, self-improving with 4 does not."""
    cfg = Config.fromfile(ROOT / 'configs/diff2in1/vpd_ade20k.py')
    check_chain(cfg, 4)
    with pytest.raises(ValueError, match='global_batch_size is 4, which 8 processes cannot share'):
        check_chain(cfg, 8)
    cfg.global_batch_size = 24
    with pytest.raises(ValueError, match='global_batch_size is 16, which 3 processes cannot share'):
        check_chain(cfg, 3)
