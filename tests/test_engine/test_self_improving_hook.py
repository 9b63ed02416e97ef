"""The average against a recursion that takes the updates one by one."""

import copy

import pytest
import torch

from mmdiff2in1.engine import SelfImprovingHook, alpha_for


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

    hook = SelfImprovingHook(alpha=0.5)
    hook._updates = 0
    hook._update(Mixed(), k=1)
    assert [tensor.tolist() for tensor in Mixed.creators] == [[0.5] * 2, [0.5] * 3, [1.0]]


def test_statistics_of_frozen_layers_stay_out_of_the_average_over_processes():
    from mmdiff2in1.engine.self_improving_hook import _running_averages

    layers = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2).eval(), torch.nn.SyncBatchNorm(2))
    found = _running_averages(layers)
    assert [id(buffer) for buffer in found] == [id(layers[0].running_mean), id(layers[0].running_var)]


@pytest.mark.parametrize('alpha', [-0.1, 1.1, True, 'auto', float('nan')])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match=r'expected the share that θ_C keeps'):
        SelfImprovingHook(alpha=alpha)


@pytest.mark.parametrize('samples', [0, -40, 1.5, True])
def test_bad_cadence(samples):
    with pytest.raises(ValueError, match='expected an integer of 1 or more'):
        SelfImprovingHook(samples_per_update=samples)


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
