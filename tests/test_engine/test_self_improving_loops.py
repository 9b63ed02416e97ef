"""Which model is evaluated under which name, and that nobody notices."""

import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample

from mmdiff2in1.core.randomness import derived_randomness
from mmdiff2in1.engine import ExploiterOptimWrapperConstructor, GroupedOptimWrapperConstructor
from mmdiff2in1.engine.self_improving_loops import beside


def with_different_models(runner):
    """θ_C answers class 0 everywhere, θ_E class 1."""
    for model, answer in ((runner.model.creator, 0), (runner.model.exploiter, 1)):
        torch.nn.init.zeros_(model[-1].weight)
        model[-1].bias.data = torch.nn.functional.one_hot(torch.tensor(answer), 3).float()


def share_of(tiny, root, answer):
    labels = [cv2.imread(str(root / f'labels/{index}.png'), cv2.IMREAD_UNCHANGED) for index in range(6)]
    return float(np.mean([(label == answer).mean() for label in labels]))


@pytest.mark.parametrize('exploiter', [True, False])
def test_names_of_the_metrics(tiny, scene_files, tmp_path, exploiter):
    cfg = dict(type='SelfImprovingValLoop', exploiter=exploiter)
    runner = tiny.segmentation_runner(tmp_path / 'run', scene_files, val_cfg=cfg)
    with_different_models(runner)
    passes = []
    forward = runner.model.val_step
    runner.model.val_step = lambda batch: (passes.append(runner.model.which), forward(batch))[1]

    expected = dict(accuracy=share_of(tiny, scene_files, 0))
    if exploiter:
        expected['exploiter/accuracy'] = share_of(tiny, scene_files, 1)
    metrics = runner.val()
    assert metrics == pytest.approx(expected, rel=1e-6)
    assert list(metrics) == list(expected)
    assert passes == (['creator', 'exploiter'] if exploiter else ['creator']) * 3
    assert runner.model.which == 'creator'


@pytest.mark.parametrize(('settings', 'keys'), [({}, 1), (dict(exploiter=True), 2)])
def test_test_loop_evaluates_the_exploiter_on_request(tiny, scene_files, tmp_path, settings, keys):
    base = tiny.segmentation_runner(tmp_path / 'a', scene_files)
    runner = tiny.segmentation_runner(
        tmp_path / 'b', scene_files,
        test_dataloader=base._val_dataloader, test_evaluator=dict(type='PixelAccuracy'),
        test_cfg=dict(type='SelfImprovingTestLoop', **settings),
    )  # fmt: skip
    with_different_models(runner)
    metrics = runner.test()
    assert list(metrics) == ['accuracy', 'exploiter/accuracy'][:keys]
    assert metrics['accuracy'] == pytest.approx(share_of(tiny, scene_files, 0), rel=1e-6)


def test_files_of_a_metric_are_those_of_the_model_that_ships(tmp_path):
    """A submission of IoUMetric(output_dir=…, format_only=True): θ_C's maps there, θ_E's in a folder of their own."""
    metric = IoUMetric(output_dir=str(tmp_path / 'maps'), format_only=True)
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    evaluators = [Evaluator(metric)]
    evaluators.append(beside(evaluators[0]))
    for evaluator, answer in zip(evaluators, (1, 2), strict=True):
        sample = SegDataSample(metainfo=dict(img_path='x/7.png'))
        sample.pred_sem_seg = PixelData(data=torch.full((1, 2, 2), answer))
        evaluator.process([sample])
    for file, answer in (('7.png', 1), ('exploiter/7.png', 2)):
        assert np.unique(cv2.imread(str(tmp_path / 'maps' / file), cv2.IMREAD_UNCHANGED)).tolist() == [answer]
    assert beside(Evaluator(IoUMetric())).metrics[0].output_dir is None


def test_evaluation_is_neutral_and_repeatable(tiny, scene_files, tmp_path):
    runner = tiny.segmentation_runner(tmp_path / 'run', scene_files)
    drawn, draw = [], torch.randn_like
    runner.model.val_step, forward = lambda batch: (drawn.append(draw(torch.zeros(2))), forward(batch))[1], (
        runner.model.val_step
    )  # fmt: skip
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first = runner.val()
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    # Of torch's what the iterator of the loader draws, see the next test.
    after = torch.get_rng_state()
    torch.set_rng_state(states[2])
    torch.empty((), dtype=torch.int64).random_()
    assert torch.equal(torch.get_rng_state(), after)
    torch.rand(3)
    second = runner.val_loop.run()
    assert first == second
    assert torch.equal(torch.stack(drawn[0:6:2]), torch.stack(drawn[1:6:2])), 'θ_C and θ_E see the same draws'
    assert torch.equal(torch.stack(drawn[:6]), torch.stack(drawn[6:])), 'in every validation'
    assert not torch.equal(drawn[0], drawn[2])
    assert all(torch.equal(value, before[name]) for name, value in runner.model.state_dict().items())


@pytest.mark.parametrize('loader', [{}, dict(num_workers=1, persistent_workers=True)])
def test_the_training_goes_on_as_after_a_loop_of_mmengine(tiny, scene_files, tmp_path, monkeypatch, loader):
    """Its loop draws from the training's random state, workers that persist only once; θ_E draws beside it."""
    monkeypatch.setattr(torch, 'randn_like', torch.zeros_like)  # what this model draws when it predicts
    following = {}
    for kind in ('ValLoop', 'SelfImprovingValLoop'):
        runner = tiny.segmentation_runner(tmp_path / kind, scene_files, val_cfg=dict(type=kind))
        runner._val_dataloader.update(loader)
        torch.manual_seed(7)
        before = torch.get_rng_state()
        runner.val()
        assert not torch.equal(torch.get_rng_state(), before)
        following[kind] = [float(torch.rand(()))]
        runner.val_loop.run()
        following[kind].append(float(torch.rand(())))
        runner.val_loop.dataloader._iterator = None  # ends the worker now; the garbage collector waits 5 s
    assert following['SelfImprovingValLoop'] == following['ValLoop']


def test_predictions_are_those_of_two_passes_of_their_own(tiny, scene_files, tmp_path):
    """Bit for bit, and the data are loaded once; TinySegmentor draws noise in each prediction."""
    runner = tiny.segmentation_runner(tmp_path / 'run', scene_files)
    runner.model.exploiter[-1].weight.data.normal_(generator=torch.Generator().manual_seed(1))
    loop, logits = runner.val_loop, {'creator': [], 'exploiter': []}
    for name in logits:
        getattr(runner.model, name).register_forward_hook(lambda *args, name=name: logits[name].append(args[-1]))
    loaded, load = [], loop.dataloader.dataset.__class__.__getitem__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            loop.dataloader.dataset.__class__, '__getitem__', lambda *args: (loaded.append(args[1]), load(*args))[1]
        )
        metrics = loop.run()
    assert loaded == list(range(6))
    found = {name: torch.cat(values) for name, values in logits.items()}
    assert not torch.equal(found['creator'], found['exploiter'])

    for name, prefix in (('creator', ''), ('exploiter', 'exploiter/')):
        logits[name].clear()
        with derived_randomness(runner.seed, 'evaluation', 0), runner.model.evaluated(name), torch.no_grad():
            for batch in loop.dataloader:
                loop.evaluator.process(runner.model.val_step(batch), batch)
        assert torch.equal(torch.cat(logits[name]), found[name])
        assert loop.evaluator.evaluate(6) == {'accuracy': metrics[f'{prefix}accuracy']}


def test_a_single_model_is_refused(tiny, scene_files, tmp_path):
    class Single(tiny.TinySegmentor):
        evaluated = property(lambda self: getattr(self, 'absent'))  # noqa: B009

    runner = tiny.segmentation_runner(tmp_path / 'run', scene_files, model=Single())
    with pytest.raises(TypeError, match=r"Single is one model.*type='ValLoop'"):
        runner.val()


def test_constructor_gives_the_optimizer_the_exploiter_alone(tiny):
    model = tiny.TinySegmentor()
    cfg = dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.5))
    wrapper = ExploiterOptimWrapperConstructor(cfg)(model)
    parameters = [parameter for group in wrapper.param_groups for parameter in group['params']]
    assert [id(each) for each in parameters] == [id(each) for each in model.exploiter.parameters()]
    assert cfg == dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.5))


def test_constructor_keeps_the_names_of_the_plain_model(tiny):
    paramwise = dict(norm_decay_mult=0.0, custom_keys={'4': dict(lr_mult=0.1)})
    cfg = dict(optimizer=dict(type='SGD', lr=1.0, weight_decay=0.5), base_constructor='DefaultOptimWrapperConstructor')
    model = tiny.TinySegmentor()
    groups = ExploiterOptimWrapperConstructor(cfg, paramwise)(model).param_groups
    settings = {id(group['params'][0]): (group['lr'], group['weight_decay']) for group in groups}
    found = {name: settings[id(parameter)] for name, parameter in model.exploiter.named_parameters()}
    assert found == {
        '0.weight': (1.0, 0.5), '0.bias': (1.0, 0.5), '1.weight': (1.0, 0.0), '1.bias': (1.0, 0.0),
        '4.weight': (0.1, 0.5), '4.bias': (0.1, 0.5),
    }  # fmt: skip


def test_joined_groups_train_alike(tiny):
    """Three steps of AdamW: the same parameters to the last bit, in three groups instead of one for each tensor."""
    paramwise = dict(norm_decay_mult=0.0, custom_keys={'4': dict(lr_mult=0.1)})
    cfg = dict(optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.5))
    found = []
    for constructor, groups in ((DefaultOptimWrapperConstructor, 6), (GroupedOptimWrapperConstructor, 3)):
        torch.manual_seed(0)
        model = tiny.TinySegmentor().exploiter
        wrapper = constructor(dict(cfg), paramwise)(model)
        assert len(wrapper.optimizer.param_groups) == groups
        for step in range(3):
            for number, parameter in enumerate(model.parameters()):
                parameter.grad = torch.full_like(parameter, 0.1 * (number + 1) - 0.2 * step)
            wrapper.step()
        found.append(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_constructor_errors():
    cfg = dict(optimizer=dict(type='SGD', lr=0.1))
    with pytest.raises(TypeError, match='found Linear.*SelfImprovingSegmentor'):
        ExploiterOptimWrapperConstructor(cfg)(torch.nn.Linear(1, 1))
    with pytest.raises(KeyError, match='NoSuch'):
        ExploiterOptimWrapperConstructor(dict(cfg, base_constructor='NoSuch'))
    layered = dict(decay_rate=0.9, num_layers=12)
    with pytest.raises(ValueError, match=r"holds decay_rate, num_layers, .*base_constructor='LearningRateDecay"):
        ExploiterOptimWrapperConstructor(cfg, layered)
    named = dict(cfg, base_constructor='LearningRateDecayOptimizerConstructor')
    assert (
        type(ExploiterOptimWrapperConstructor(named, layered).base).__name__ == 'LearningRateDecayOptimizerConstructor'
    )
