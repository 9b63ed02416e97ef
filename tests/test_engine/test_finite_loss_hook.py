"""A loss that is not finite stops the run, names step and term, and no checkpoint holds what came of it."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmdiff2in1.engine import FiniteLossHook


class Failing(BaseModel):
    """w · x, and a second term that is log(w) once step `at` has set w to -1."""

    def __init__(self, at):
        super().__init__()
        self.w, self.at, self.step = nn.Parameter(torch.ones(())), at, 0

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.step += 1
        if self.step == self.at:
            self.w.data.fill_(-1.0)
        return dict(loss_a=(self.w * torch.stack(list(inputs))).mean(), loss_b=self.w.log())


def run(tmp_path, at, hook, steps=8, interval=2):
    loader = dict(
        batch_size=1, dataset=[dict(inputs=torch.ones(1))] * 4, sampler=dict(type='InfiniteSampler'),
        collate_fn=dict(type='pseudo_collate'),
    )  # fmt: skip
    runner = Runner(
        Failing(at), str(tmp_path), loader, train_cfg=dict(by_epoch=False, max_iters=steps),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=interval)),
        custom_hooks=[hook], experiment_name=f'finite-{tmp_path.name}', log_level='ERROR', default_scope='mmseg',
    )  # fmt: skip
    runner.train()
    return runner


def test_names_step_and_term_before_the_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match='step 5: loss_b is not finite'):
        run(tmp_path, 5, dict(type='FiniteLossHook', interval=100))
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['iter_2.pth', 'iter_4.pth']


@pytest.mark.parametrize(('at', 'stops'), [(2, 3), (7, 8)])
def test_looks_every_interval_and_at_the_end(tmp_path, at, stops):
    with pytest.raises(FloatingPointError, match=f'step {at}: loss_b'):
        run(tmp_path, at, dict(type='FiniteLossHook', interval=3), interval=100)


def test_a_finite_run_is_let_be(tmp_path):
    runner = run(tmp_path, 0, dict(type='FiniteLossHook', interval=3))
    assert runner.iter == 8 and isinstance(runner.hooks[-1], CheckpointHook)


def test_batches_with_other_terms_are_remembered_apart_and_not_looked_at(monkeypatch):
    hook, looks = FiniteLossHook(interval=1000), []
    runner = SimpleNamespace(optim_wrapper=None, iter=0, max_iters=10**6)
    hook.before_train(runner)
    look = hook._look
    monkeypatch.setattr(hook, '_look', lambda: looks.append(1) or look())
    nan, one = torch.tensor(float('nan')), torch.tensor(1.0)
    steps = [
        dict(loss=one, acc=nan),  # an accuracy is no loss
        dict(loss=one, real_loss=one, synthetic_loss=one),
        dict(loss=nan, real_loss=nan, synthetic_loss=one),
        dict(loss=nan),
        dict(loss=nan, real_loss=one, synthetic_loss=nan),
    ]
    for runner.iter, losses in enumerate(steps):
        hook.after_train_iter(runner, runner.iter, None, losses)
    assert not looks
    with pytest.raises(FloatingPointError, match='step 3: real_loss is not finite'):
        hook.before_save_checkpoint(runner, {})
    hook.before_train(runner)  # another run
    hook.before_save_checkpoint(runner, {})


def test_bad_interval():
    with pytest.raises(ValueError, match='interval is 0'):
        FiniteLossHook(0)
