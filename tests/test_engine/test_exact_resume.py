"""A training killed in the middle of writing a checkpoint and resumed equals the one that ran through."""

import random
import re
import signal

import numpy as np
import pytest
import torch
from forks import Fork, skip_where_a_gpu_is_in_use

from mmdiff2in1.engine import ExactResumeHook
from mmdiff2in1.engine.last_checkpoint import last_checkpoint


@pytest.fixture(scope='module')
def straight(tiny, scene_files, tmp_path_factory):
    """8 steps without a break: the runner, with everything it ended with."""
    runner = tiny.segmentation_runner(tmp_path_factory.mktemp('straight') / 'run', scene_files)
    runner.train()
    return runner


@pytest.fixture(scope='module')
def killed(tiny, scene_files, tmp_path_factory):
    """Work dir of a run that got SIGKILL while it wrote the checkpoint of step 6."""
    skip_where_a_gpu_is_in_use()
    work_dir = tmp_path_factory.mktemp('killed') / 'run'
    process = Fork(work_dir.with_suffix('.log'), tiny.killed_in_checkpoint, work_dir, scene_files, 6)
    output = process.wait(120)
    assert process.returncode == -signal.SIGKILL, output
    return work_dir


def test_kill_while_writing_leaves_the_previous_checkpoint(killed):
    found = last_checkpoint(killed)
    assert found == killed / 'iter_4.pth'
    assert torch.load(found, weights_only=False)['meta']['iter'] == 4
    assert not (killed / 'iter_6.pth').exists()
    (part,) = killed.glob('.iter_6.pth.*.part')
    assert part.stat().st_size == 1000


@pytest.mark.parametrize('num_workers', [0, 2])
def test_resumed_run_equals_the_straight_one(tiny, scene_files, straight, killed, tmp_path, num_workers):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    for file in killed.iterdir():
        if file.is_file():
            (work_dir / file.name).write_bytes(file.read_bytes())

    runner = tiny.segmentation_runner(work_dir, scene_files, num_workers=num_workers, resume=True)
    runner.train()
    runner.train_loop.dataloader_iterator._iterator = None  # ends the workers now; the garbage collector waits 10 s

    expected = straight.model.state_dict()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    for mine, theirs in zip(
        runner.optim_wrapper.optimizer.state.values(), straight.optim_wrapper.optimizer.state.values(), strict=True
    ):
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    for key in ('self_improving_n', 'self_improving_updates', 'best_score'):
        assert runner.message_hub.get_info(key) == straight.message_hub.get_info(key)
    assert runner.message_hub.get_info('self_improving_updates') == 8 * 5 // 7
    for name in ('train/loss', 'val/accuracy', 'val/exploiter/accuracy'):
        mine, theirs = (each.message_hub.get_scalar(name).data[0] for each in (runner, straight))
        assert mine.tolist() == theirs.tolist()
    assert not list(work_dir.glob('.*.part')), 'leftovers of the killed run'


def test_the_model_really_draws(tiny, scene_files, straight, tmp_path):
    """The equality above would be worth little without dropout, augmentation and order depending on the seed."""
    for change in (dict(randomness=dict(seed=6)), dict(model=dict(type='TinySegmentor', dropout=0.4))):
        runner = tiny.segmentation_runner(tmp_path / 'run', scene_files, **change)
        runner.train()
        assert not torch.equal(runner.model.exploiter[0].weight, straight.model.exploiter[0].weight)


def test_validation_changes_nothing(tiny, scene_files, straight, tmp_path):
    without = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    checkpoint = dict(type='AtomicCheckpointHook', interval=4, by_epoch=False)
    runner = tiny.segmentation_runner(
        tmp_path / 'run', scene_files, **without, default_hooks=dict(checkpoint=checkpoint)
    )
    runner.train()
    expected = straight.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in runner.model.state_dict().items())


def test_a_validation_prints_its_scores_and_times_alone(straight):
    _, line = straight.log_processor.get_log_after_epoch(straight, 2, 'val', with_non_scalar=True)
    names = set(re.findall(r'(\S+): ', line))
    assert names <= {'accuracy', 'exploiter/accuracy', 'data_time', 'time'} and 'accuracy' in names


class _Runner:
    seed = 11
    iter = 0
    train_loop = val_loop = None
    _randomness_cfg = dict(seed=None)

    def __init__(self):
        self.warnings = []
        self.logger = self

    def warning(self, text):
        self.warnings.append(text)


def draws(hook, runner, iteration, rank=0):
    hook._rank = rank
    runner.iter = iteration
    hook.before_train_iter(runner, 0)
    return random.random(), np.random.random(), torch.rand(()).item()


def test_each_iteration_and_rank_draws_its_own_numbers():
    runner, hook = _Runner(), ExactResumeHook()
    hook.before_run(runner)
    hook.before_train(runner)
    drawn = [draws(hook, runner, iteration, rank) for iteration in range(20) for rank in range(4)]
    numbers = [number for draw in drawn for number in draw]
    assert len(set(numbers)) == len(numbers) == 240
    assert draws(hook, runner, 7, rank=2) == drawn[7 * 4 + 2], 'independent of what was drawn before'
    runner.seed = 12
    hook.before_train(runner)
    assert draws(hook, runner, 7, rank=2) not in drawn


def test_missing_seed_is_said():
    runner, hook = _Runner(), ExactResumeHook()
    hook.before_run(runner)
    hook.before_train(runner)
    assert len(runner.warnings) == 1
    assert 'randomness=dict(seed=11)' in runner.warnings[0]
    runner._randomness_cfg = dict(seed=3)
    hook.before_run(runner)
    hook.before_train(runner)
    assert len(runner.warnings) == 1


def test_bad_seed():
    with pytest.raises(ValueError, match='expected an integer or None'):
        ExactResumeHook(seed='7')
