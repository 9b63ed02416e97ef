"""Sharding in a group of one process: what is handed over, what is refused; two processes: `test_fully_sharded.py`."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.distributed.tensor import DTensor

from mmdiff2in1.engine import CompileLayersHook, FullyShardedModel, FullyShardHook, move_creator
from mmdiff2in1.engine.fully_sharded_model import own_share, whole


@pytest.fixture(scope='module', autouse=True)
def group(tmp_path_factory):
    """A process group of one."""
    meeting = tmp_path_factory.mktemp('group') / 'meeting'
    dist.init_process_group('gloo', init_method=f'file://{meeting}', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.linear(x).tanh()


class Model(BaseModel):
    """Two layers, one inside the other's neighbour, and a head that is in none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = Layer(), Layer(), nn.Linear(3, 1)

    def forward(self, inputs, mode='loss'):
        return dict(loss=self.head(self.second(self.first(inputs))).square().mean())


def images(step=0):
    return dict(inputs=torch.randn(4, 3, generator=torch.Generator().manual_seed(step)))


def trained(model, wrapper, steps):
    return [float(model.train_step(images(step), wrapper)['loss'].detach()) for step in steps]


def optimizer(model, kind=torch.optim.AdamW, **options):
    groups = [dict(params=list(model.head.parameters()), lr=0.2), dict(params=list(model.first.parameters()))]
    return OptimWrapper(kind([*groups, dict(params=list(model.second.parameters()))], lr=0.1, **options))


def test_moments_and_groups_are_handed_over():
    """Two steps whole, then two sharded: the losses of four whole ones, and the optimizer is the same object."""
    plain, model = Model(), Model()
    expected = trained(plain, optimizer(plain), range(4))
    wrapper = optimizer(model)
    before = trained(model, wrapper, range(2))
    sharded, groups = FullyShardedModel(model, layers=['Layer']), wrapper.optimizer.param_groups
    assert sharded.shard(wrapper) == 2 and sharded.sharded
    assert wrapper.optimizer.param_groups is groups and [group['lr'] for group in groups] == [0.2, 0.1, 0.1]
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert {id(p) for group in groups for p in group['params']} == {id(p) for p in model.parameters()}
    assert before + trained(sharded, wrapper, range(2, 4)) == pytest.approx(expected, rel=1e-6)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(whole(model.state_dict()[name]), tensor)


def test_gathered_for_an_evaluation():
    model = Model()
    sharded, wrapper = FullyShardedModel(model, layers=['Layer']), optimizer(model)
    sharded.shard(wrapper)
    sharded.gather()
    assert not any(isinstance(parameter, DTensor) for parameter in model.parameters())
    with torch.no_grad():
        model(**images())
        # A part alone, without the model around it.
        torch.testing.assert_close(model.first(images()['inputs']), Model().first(images()['inputs']))
    assert not any(isinstance(parameter, DTensor) for parameter in model.parameters())
    sharded.release()
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    reference = Model()
    assert trained(sharded, wrapper, range(2)) == pytest.approx(trained(reference, optimizer(reference), range(2)))
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())


def test_an_average_of_shares_is_the_average():
    model = Model()
    model.second.requires_grad_(False)
    before, other = (layer.linear.weight.detach().clone() for layer in (model.second, model.first))
    sharded = FullyShardedModel(model, layers=['Layer'])
    sharded.shard(OptimWrapper(torch.optim.SGD(model.first.parameters(), lr=0.1)))
    creator, exploiter = own_share(model.second.linear.weight), own_share(model.first.linear.weight)
    assert type(creator) is torch.Tensor
    move_creator(([creator], [exploiter], [], []), keep=0.75)
    torch.testing.assert_close(whole(model.second.linear.weight), 0.75 * before + 0.25 * other)
    plain = torch.zeros(2)
    assert own_share(plain) is plain


def tied(model):
    model.second.linear.weight = model.first.linear.weight


def scalar(model):
    model.head.scale = nn.Parameter(torch.tensor(1.0))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (tied, r'Linear\.weight is shared by two layers that are gathered apart; leave one of them out of `layers`'),
        (scalar, r'head\.scale: a parameter that is one number cannot be sharded'),
    ],
)
def test_parameters_that_cannot_be_sharded(change, message):
    model = Model()
    change(model)
    sharded = FullyShardedModel(model, layers=['Layer'])
    with pytest.raises(ValueError, match=message):
        sharded.shard(OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    assert not sharded.sharded


def test_a_class_that_is_not_in_the_model():
    model = Model()
    sharded = FullyShardedModel(model, layers=['Layers'])
    with pytest.raises(ValueError, match=r'no layers of the class Layers \(did you mean Layer\?\)'):
        sharded.shard(optimizer(model))
    assert not sharded.sharded
    # Those of a denoiser stand in the default, whether a model has them or not.
    assert FullyShardedModel(model).shard(optimizer(model)) == 0


def test_one_parameter_twice_in_a_layer_is_no_fault():
    model = Model()
    model.first.again = model.first.linear
    sharded = FullyShardedModel(model, layers=['Layer'])
    assert sharded.shard(optimizer(model)) == 2


def test_moments_of_another_shape():
    model = Model()
    wrapper = optimizer(model, torch.optim.Adafactor)
    trained(model, wrapper, range(1))
    with pytest.raises(ValueError, match=r'of Adafactor has shape .* for weights of .*, expected a number per weight'):
        FullyShardedModel(model, layers=['Layer']).shard(wrapper)


def test_one_optimizer():
    model = Model()
    several = OptimWrapperDict(one=optimizer(model))
    with pytest.raises(TypeError, match='takes one optimizer, found OptimWrapperDict'):
        FullyShardedModel(model).shard(several)


def test_a_training_that_does_not_shard():
    model = Model()
    with pytest.raises(RuntimeError, match='not sharded: train with `mmdiff2in1 train`'):
        FullyShardedModel(model).train_step(images(), optimizer(model))


def test_what_does_not_go_together():
    hook, model = FullyShardHook(), FullyShardedModel(Model())
    with pytest.raises(TypeError, match='needs a FullyShardedModel, found Model'):
        hook.before_run(SimpleNamespace(model=Model()))
    hook.before_run(SimpleNamespace(model=model, cfg={'compile': False}, hooks=[hook]))
    for cfg, hooks in (({'compile': True}, [hook]), ({}, [hook, CompileLayersHook()])):
        with pytest.raises(ValueError, match='cannot be compiled: drop compile, and CompileLayersHook'):
            hook.before_run(SimpleNamespace(model=model, cfg=cfg, hooks=hooks))
