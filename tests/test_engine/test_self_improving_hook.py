"""The average against a recursion that takes the updates one by one."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from mmdiff2in1.engine import SelfImprovingHook, alpha_for, move_creator
from mmdiff2in1.engine.self_improving_hook import _expected_updates


def trained(tiny, folder, batch, **settings):
    runner = tiny.regression_runner(folder, batch, **settings)
    first = copy.deepcopy(runner.model.creator.state_dict())
    runner.train()
    recorder = next(hook for hook in runner.hooks if isinstance(hook, tiny.Recorder))
    return runner, first, recorder.exploiters


@pytest.mark.parametrize('batch', [3, 16, 128])
def test_creator_equals_the_recursion_over_samples(tiny, tmp_path, batch):
    runner, first, exploiters = trained(tiny, tmp_path / 'run', batch)
    expected, pending, updates = tiny.by_recursion(first, exploiters, batch)

    assert updates == 30 * batch // 40 > 0
    for name, value in runner.model.creator.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-12, atol=1e-14)
    assert runner.message_hub.get_info('self_improving_n') == pending == 30 * batch % 40
    assert runner.message_hub.get_info('self_improving_updates') == updates
    assert runner.message_hub.get_scalar('train/ema_updates').current() == updates
    # Running averages are averaged: neither left alone nor copied.
    mean = runner.model.creator.state_dict()['1.running_mean']
    assert not torch.allclose(mean, first['1.running_mean'])
    assert not torch.allclose(mean, runner.model.exploiter.state_dict()['1.running_mean'])


def test_updates_are_visible_in_the_log(tiny, tmp_path):
    trained(tiny, tmp_path / 'run', 16, max_iters=10, log_processor=dict(by_epoch=False))
    log = next((tmp_path / 'run').rglob('vis_data/*.json')).read_text()
    assert '"ema_updates": 4' in log  # 10 steps of 16 samples


@pytest.mark.parametrize(('batch', 'accumulate'), [(16, 4), (100, 3)])
def test_accumulated_batches_count_at_the_optimizer_step(tiny, tmp_path, batch, accumulate):
    runner, first, exploiters = trained(tiny, tmp_path / 'run', batch, accumulate=accumulate, max_iters=11)
    expected, pending, updates = tiny.by_recursion(first, exploiters, batch, accumulate=accumulate)
    assert (updates, pending) == divmod(11 * batch, 40)  # mmengine steps at the last iteration in any case
    for name, value in runner.model.creator.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-12, atol=1e-14)


def test_integers_and_power_iteration_vectors_are_copied(tiny, tmp_path):
    runner, first, exploiters = trained(tiny, tmp_path / 'run', 16, max_iters=6)
    creator = runner.model.creator.state_dict()
    # 96 samples: updates after steps 3 (48) and 5 (80).
    assert creator['1.num_batches_tracked'] == exploiters[4]['1.num_batches_tracked'] == 5
    assert torch.equal(creator['3.u'], exploiters[4]['3.u'])
    assert not torch.equal(creator['3.u'], first['3.u'])


@pytest.mark.parametrize(('alpha', 'expected'), [(1, 0.0), (0, 1.0), (0.25, 0.9375)])
def test_alpha_is_what_the_creator_keeps(tiny, alpha, expected):
    class Line(tiny.TwoModels):
        forward = None

    model = Line(torch.nn.Linear(2, 1, bias=False))
    torch.nn.init.zeros_(model.creator.weight)
    torch.nn.init.ones_(model.exploiter.weight)
    hook = SelfImprovingHook(alpha=alpha)
    hook._updates = 0
    hook._collect(model)
    hook._update(model, k=2)  # 1 - alpha^2 of the way
    assert model.creator.weight.tolist() == [[expected, expected]]
    assert model.exploiter.weight.tolist() == [[1, 1]]


def test_dtypes_may_differ_between_parameters():
    class Mixed(torch.nn.Module):
        exploiter = torch.nn.Identity()
        creators = [torch.zeros(2), torch.zeros(3, dtype=torch.float64), torch.zeros(1)]
        exploiters = [torch.ones(2), torch.ones(3, dtype=torch.float64), torch.full((1,), 2.0)]

        def ema_tensors(self):
            return self.creators, self.exploiters, [], []

    hook, model = SelfImprovingHook(alpha=0.5), Mixed()
    hook._updates = 0
    hook._collect(model)
    hook._update(model, k=1)
    assert [tensor.tolist() for tensor in Mixed.creators] == [[0.5] * 2, [0.5] * 3, [1.0]]


def test_statistics_of_frozen_layers_stay_out_of_the_average_over_processes():
    from mmdiff2in1.engine.self_improving_hook import _running_averages, _with_own_statistics

    layers = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2).eval(), torch.nn.SyncBatchNorm(2))
    found = _running_averages(_with_own_statistics(layers))
    assert [id(buffer) for buffer in found] == [id(layers[0].running_mean), id(layers[0].running_var)]


def test_the_model_is_walked_through_once(tiny, scene_files, tmp_path):
    """TinySegmentor changes its buffers in place; TinyRegression binds one anew in every step."""
    calls = []

    def counted(runner):
        collect = runner.model.ema_tensors
        runner.model.ema_tensors = lambda: (calls.append(1), collect())[1]
        runner.train()
        return runner.message_hub.get_info('self_improving_updates'), len(calls)

    runner = tiny.segmentation_runner(tmp_path / 'a', scene_files)
    assert counted(runner) == (5, 2), 'before the training and at the first update'
    calls.clear()
    assert counted(tiny.regression_runner(tmp_path / 'b', 40, max_iters=6)) == (6, 7)


@pytest.mark.parametrize('alpha', [-0.1, 1.1, True, 'auto', float('nan')])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match=r'expected the share that θ_C keeps'):
        SelfImprovingHook(alpha=alpha)


@pytest.mark.parametrize('samples', [0, -40, 1.5, True])
def test_bad_cadence(samples):
    with pytest.raises(ValueError, match='expected an integer of 1 or more'):
        SelfImprovingHook(alpha=0.9, samples_per_update=samples)


def test_plain_model_is_refused_before_the_first_step(tiny, tmp_path):
    class Plain(tiny.TinyRegression):
        ema_tensors = property(lambda self: getattr(self, 'absent'))  # noqa: B009

    runner = tiny.regression_runner(tmp_path / 'run', 4, model=Plain())
    with pytest.raises(TypeError, match=r'found Plain.*SelfImprovingSegmentor'):
        runner.train()


def test_uncountable_batch():
    from mmdiff2in1.engine.self_improving_hook import _batch_size

    assert _batch_size(dict(inputs=[1, 2, 3])) == 3
    assert _batch_size(dict(inputs=dict(image=[1, 2]))) == 2
    with pytest.raises(TypeError, match='PackSegInputs'):
        _batch_size([[1, 2], [3, 4]])


def test_alpha_for_a_number_of_updates():
    assert alpha_for(1) == 0.05
    assert alpha_for(120) ** 120 == pytest.approx(0.05, rel=1e-12)
    assert alpha_for(10, remaining=0.5) == pytest.approx(0.9330329915368074, rel=1e-15)
    for bad in (dict(updates=0), dict(updates=5, remaining=0), dict(updates=5, remaining=1)):
        with pytest.raises(ValueError, match='expected updates >= 1'):
            alpha_for(**bad)


def averaging(**settings):
    return dict(custom_hooks=[dict(type='Recorder'), dict(type='SelfImprovingHook', **settings)])


def hook_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, SelfImprovingHook))


def test_remaining_is_what_is_left_of_the_first_creator(tiny, tmp_path):
    """θ_E stands still: θ_C ends 95 % of the way there, whatever the batch."""
    for batch, remaining in ((16, 0.05), (3, 0.05), (128, 0.3)):
        optimizer = dict(optimizer=dict(type='SGD', lr=0.0))
        runner = tiny.regression_runner(
            tmp_path / f'{batch}', batch, optim_wrapper=optimizer, **averaging(remaining=remaining)
        )
        runner.logger.info = (said := []).append
        there = runner.model.exploiter[0].weight.detach()
        first = runner.model.creator[0].weight.data.add_(1).clone()
        runner.train()
        expected = remaining * first + (1 - remaining) * there
        torch.testing.assert_close(runner.model.creator[0].weight.data, expected, rtol=1e-10, atol=1e-12)
        updates = 30 * batch // 40
        assert hook_of(runner).alpha == remaining ** (1 / updates)
        assert any(f'α = {remaining ** (1 / updates):.6g}, of which {updates} updates' in line for line in said)


def test_alpha_from_remaining_gives_the_same_average_as_the_number(tiny, tmp_path):
    runner, first, exploiters = trained(tiny, tmp_path / 'run', 16, **averaging(remaining=0.05))
    expected, _, updates = tiny.by_recursion(first, exploiters, 16, alpha=0.05 ** (1 / 12))
    assert updates == 12
    for name, value in runner.model.creator.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-12, atol=1e-14)


def test_alpha_counts_synthetic_samples_and_survives_a_resume(tiny, scene_files, tmp_path):
    """8 steps of 3 real and 2 synthetic samples, an update per 7."""

    def run(name, stop=None, **settings):
        hooks = [dict(type='SelfImprovingHook', remaining=0.2, samples_per_update=7), dict(type='ExactResumeHook')]
        hooks += [dict(type='Stop', iteration=stop)] if stop else []
        runner = tiny.segmentation_runner(tmp_path / name, scene_files, custom_hooks=hooks, **settings)
        if stop:
            with pytest.raises(KeyboardInterrupt):
                runner.train()
        else:
            runner.train()
        assert hook_of(runner).alpha == 0.2 ** (1 / 5)
        return runner.model.state_dict()

    straight = run('straight')
    run('resumed', stop=4)
    resumed = run('resumed', resume=True)
    assert all(torch.equal(value, straight[name]) for name, value in resumed.items())


def test_remaining_without_a_length():
    def runner(loop, **attributes):
        made = object.__new__(loop)
        made.__dict__.update(attributes)
        return SimpleNamespace(train_loop=made)

    loader = torch.utils.data.DataLoader(range(20), batch_size=3)
    assert _expected_updates(runner(IterBasedTrainLoop, _max_iters=10, dataloader=loader), 4, 40) == 3
    with pytest.raises(ValueError, match='10 iterations of 3 samples make no update of 40 samples'):
        _expected_updates(runner(IterBasedTrainLoop, _max_iters=10, dataloader=loader), 1, 40)
    # Three epochs of seven batches; the last of each counts as a whole one.
    epochs = runner(EpochBasedTrainLoop, _max_epochs=3, _max_iters=21, dataloader=loader)
    assert _expected_updates(epochs, 1, 3) == 21
    with pytest.raises(ValueError, match=r"found SimpleNamespace; .*type='IterBasedTrainLoop'"):
        _expected_updates(SimpleNamespace(train_loop=SimpleNamespace()), 1, 40)
    lists = torch.utils.data.DataLoader(range(4), batch_sampler=[[0, 1], [2, 3]])
    with pytest.raises(ValueError, match='the batch size of list is not known'):
        _expected_updates(runner(IterBasedTrainLoop, _max_iters=10, dataloader=lists), 1, 40)


@pytest.mark.parametrize('remaining', [0, 1, -0.1, True, '5 %', float('nan')])
def test_bad_remaining(remaining):
    with pytest.raises(ValueError, match=r'a number in \(0, 1\)'):
        SelfImprovingHook(remaining=remaining)


@pytest.mark.parametrize('both', [dict(), dict(alpha=0.998, remaining=0.05)])
def test_one_of_alpha_and_remaining(both):
    with pytest.raises(ValueError, match=r'expected one of them: alpha=0\.998.*remaining=0\.05'):
        SelfImprovingHook(**both)


def test_the_average_on_tensors_of_several_types():
    creator = [torch.tensor([1.0]), torch.tensor([2.0], dtype=torch.float64)]
    exploiter = [torch.tensor([3.0]), torch.tensor([6.0], dtype=torch.float64)]
    counter, steps = torch.tensor(4), torch.tensor(7)
    move_creator((creator, exploiter, [counter], [steps]), 0.75)
    assert [each.item() for each in creator] == [1.5, 3.0] and counter == 7
    assert [each.item() for each in exploiter] == [3.0, 6.0]


def test_a_resume_with_another_batch_is_refused(tiny, tmp_path):
    folder = tmp_path / 'run'
    checkpoints = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=6)))
    tiny.regression_runner(folder, 16, max_iters=6, **checkpoints).train()
    again = dict(max_iters=10, resume=True, load_from=str(folder / 'iter_6.pth'))
    with pytest.raises(ValueError, match='has had 16 samples per step, and would go on with 8 on 1 process.*size=16'):
        tiny.regression_runner(tmp_path / 'other', 8, **again).train()
    runner = tiny.regression_runner(tmp_path / 'same', 16, **again)
    runner.train()
    assert runner.message_hub.get_info('self_improving_updates') == 10 * 16 // 40


def test_a_training_without_an_update_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr('mmdiff2in1.engine.self_improving_hook.TRIAL', 2)
    message = 'iterations of 16 samples make no update of 40 samples'
    with pytest.raises(ValueError, match=f'2 {message}'):
        tiny.regression_runner(tmp_path / 'run', 16, max_iters=2).train()
    runner = tiny.regression_runner(tmp_path / 'trial', 16, max_iters=1)
    warned = []
    monkeypatch.setattr(runner.logger, 'warning', lambda text, *_: warned.append(text))
    runner.train()
    assert any(text.startswith(f'1 {message}') for text in warned)
