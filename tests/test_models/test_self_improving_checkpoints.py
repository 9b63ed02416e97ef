"""Checkpoints of the self-improving segmentor: round trips, plain checkpoints, and those of something else."""

import copy
import pickle

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import get_state_dict, load_checkpoint
from mmengine.runner.checkpoint import load_state_dict
from mmseg.registry import MODELS
from torch import nn

from mmdiff2in1.models.self_improving import SelfImprovingSegmentor
from mmdiff2in1.models.self_improving.whole_loading import load_whole


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@MODELS.register_module()
class FakeSharingBackbone(nn.Module):
    """A frozen and a trained convolution; the frozen one is shared on request."""

    def __init__(self, share=True):
        super().__init__()
        self.frozen = nn.Conv2d(3, 4, 1).requires_grad_(False)
        self.adapter = nn.Conv2d(4, 4, 1)
        self.shared = [self.frozen] if share else []

    def frozen_modules(self):
        return self.shared

    def forward(self, images):
        return (self.adapter(self.frozen(images)),)


@MODELS.register_module()
class PreprocessorWithState(nn.Module):
    """A preprocessor whose statistics are part of the checkpoint."""

    def __init__(self, mean=0.0):
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean))

    def forward(self, data, training=False):
        return data


def config(seed=None, num_classes=3, share=True, mean=0.0):
    if seed is not None:
        torch.manual_seed(seed)
    head = dict(
        type='FCNHead', in_channels=4, in_index=0, channels=4, num_convs=1, concat_input=False, num_classes=num_classes,
        norm_cfg=dict(type='BN'),
    )  # fmt: skip
    return ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='PreprocessorWithState', mean=mean),
        backbone=dict(type='FakeSharingBackbone', share=share),
        decode_head=head,
        test_cfg=dict(mode='whole'),
    )


def trained(seed=0, **settings):
    """A wrapped model whose two halves differ in every tensor of their own."""
    model = SelfImprovingSegmentor(config(seed, **settings))
    for segmentor in (model.exploiter, model.creator):
        for module in (segmentor.backbone.adapter, segmentor.decode_head):
            for tensor in module.state_dict().values():
                tensor.copy_(torch.rand(tensor.shape) * 9)
    return model


def assert_equal(one, other):
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


LOADERS = dict(
    torch=lambda model, state: model.load_state_dict(state),
    mmengine=lambda model, state: load_state_dict(model, state, strict=True),
    mmengine_lenient=lambda model, state: load_state_dict(model, state, strict=False),
)


@pytest.mark.parametrize('loader', LOADERS)
def test_round_trip(loader):
    source, target = trained(0, mean=3.0), trained(1)
    state = source.state_dict()
    LOADERS[loader](target, state)
    assert_equal(state, target.state_dict())
    assert_equal(source.creator.state_dict(), target.creator.state_dict())
    assert not torch.equal(target.creator.decode_head.conv_seg.weight, target.exploiter.decode_head.conv_seg.weight)
    assert target.creator.backbone.frozen is target.exploiter.backbone.frozen


def test_keys():
    keys = list(trained().state_dict())
    assert [key for key in keys if 'frozen' in key] == [
        'exploiter.backbone.frozen.weight',
        'exploiter.backbone.frozen.bias',
    ]
    assert [key for key in keys if 'data_preprocessor' in key] == ['data_preprocessor.mean']
    assert keys == list(get_state_dict(trained()))  # mmengine's own walk


def test_loading_changes_no_caller_and_saves_no_second_copy(tmp_path):
    source = trained()
    state = source.state_dict()
    before = dict(state)
    trained(1).load_state_dict(state)
    assert dict(state).keys() == before.keys()
    torch.save(dict(state_dict=state), tmp_path / 'model.pth')
    load_checkpoint(target := trained(1), str(tmp_path / 'model.pth'), strict=True)
    assert_equal(state, target.state_dict())


@pytest.mark.parametrize('loader', LOADERS)
def test_plain_checkpoint_fills_both(loader):
    plain = MODELS.build(config(5, mean=2.0))
    model = trained(1)
    LOADERS[loader](model, plain.state_dict())
    assert_equal(plain.state_dict(), model.exploiter.state_dict())
    assert_equal(plain.state_dict(), model.creator.state_dict())
    assert model.data_preprocessor.mean == 2


def test_plain_checkpoint_through_a_file_of_a_wrapped_run(tmp_path):
    """Keys as DistributedDataParallel leaves them, mmengine's `load_from`."""
    plain = MODELS.build(config(5))
    state = {f'module.{key}': value for key, value in plain.state_dict().items()}
    torch.save(dict(meta={}, state_dict=state), tmp_path / 'plain.pth')
    load_checkpoint(model := trained(1), str(tmp_path / 'plain.pth'), map_location='cpu', strict=True)
    assert_equal(plain.state_dict(), model.creator.state_dict())


def test_the_creator_loads_into_the_plain_segmentor():
    model, plain = trained(), MODELS.build(config(5))
    plain.load_state_dict(model.creator.state_dict())
    assert_equal(plain.state_dict(), model.creator.state_dict())


@pytest.mark.parametrize(
    'state', [{}, {'head.fc.weight': torch.zeros(2)}, {'exploiter.backbone.adapter.weight': torch.zeros(2)}]
)
@pytest.mark.parametrize('loader', LOADERS)
def test_a_checkpoint_of_which_nothing_fits_is_refused(loader, state):
    with pytest.raises(RuntimeError, match=r'(?s)does not fit.*(missing|unfit) \d+: .*backbone.adapter.weight'):
        LOADERS[loader](trained(), state)


def test_counters_alone_are_no_fit():
    state = {'decode_head.convs.0.bn.num_batches_tracked': torch.tensor(3)}
    with pytest.raises(RuntimeError, match=r'(?s)does not fit.*missing \d+: .*exploiter.backbone.adapter.weight'):
        load_state_dict(trained(), state, strict=False)


@pytest.mark.parametrize('plain', [True, False])
def test_missing_and_unexpected_keys_are_listed(plain):
    state = (MODELS.build(config(5)) if plain else trained(5)).state_dict()
    prefix = '' if plain else 'exploiter.'
    del state[f'{prefix}decode_head.conv_seg.bias']
    state[f'{prefix}backbone.other.weight'] = torch.zeros(1)
    for load in LOADERS.values():
        with pytest.raises(RuntimeError, match='(?s)exploiter.(decode_head.conv_seg.bias|backbone.other)') as error:
            load(trained(1), state)
        assert 'exploiter.decode_head.conv_seg.bias' in str(error.value)
        assert 'exploiter.backbone.other.weight' in str(error.value)


@pytest.mark.parametrize('loader', LOADERS)
def test_another_number_of_classes_is_refused_unless_named(loader):
    plain, model = MODELS.build(config(5, num_classes=7)), trained(1)
    shapes = r'size mismatch for exploiter.decode_head.conv_seg.weight: .*\[7, 4, 1, 1\].*\[3, 4, 1, 1\]'
    with pytest.raises(RuntimeError, match=f"(?s)unfit 4: {shapes}.*load_from_may_differ = \\['decode_head.conv_seg'"):
        LOADERS[loader](model, plain.state_dict())
    model = trained(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_whole(model, ['decode_head.conv_seg'])
    LOADERS[loader](model, plain.state_dict())
    state = model.state_dict()
    for half in ('exploiter', 'creator'):
        for name, tensor in plain.state_dict().items():
            if not name.startswith(('data_preprocessor.', 'backbone.frozen.')):
                own = f'{half}.{name}'
                assert torch.equal(state[own], before[own] if 'conv_seg' in name else tensor), own
    load_whole(model, ['decode_head.conv'])  # whole names count, not any beginning
    with pytest.raises(RuntimeError, match='unfit 4'):
        LOADERS[loader](model, plain.state_dict())


def test_what_may_differ_and_fits_is_loaded():
    plain, model = MODELS.build(config(5)), trained(1)
    load_whole(model, ['decode_head', 'auxiliary_head.'])
    state = plain.state_dict() | {'auxiliary_head.conv.weight': torch.zeros(1)}
    load_state_dict(model, state, strict=False)
    assert_equal(plain.state_dict(), model.creator.state_dict())


@pytest.mark.parametrize('loader', LOADERS)
def test_a_plain_segmentor_can_be_guarded_as_well(loader):
    other, model = MODELS.build(config(5, num_classes=7)), MODELS.build(config(6))
    load_whole(model)
    with pytest.raises(RuntimeError, match='(?s)EncoderDecoder.*unfit 2: size mismatch for decode_head.conv_seg'):
        LOADERS[loader](model, other.state_dict())
    load_whole(model, ['decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'])
    LOADERS[loader](model, other.state_dict())
    assert torch.equal(model.backbone.adapter.weight, other.backbone.adapter.weight)
    LOADERS[loader](copy.deepcopy(model), MODELS.build(config(7)).state_dict())


@pytest.mark.parametrize(('stored', 'loaded'), [(True, False), (False, True)])
def test_sharing_may_change_between_saving_and_loading(stored, loaded):
    source, target = trained(0, share=stored), trained(1, share=loaded)
    target.load_state_dict(source.state_dict())
    assert_equal(source.creator.state_dict(), target.creator.state_dict())
    assert_equal(source.exploiter.state_dict(), target.exploiter.state_dict())


def test_below_another_module():
    source, target = nn.ModuleDict(dict(model=trained(0))), nn.ModuleDict(dict(model=trained(1)))
    target.load_state_dict(source.state_dict())
    assert_equal(source.state_dict(), target.state_dict())
    assert not any('creator.backbone.frozen' in key for key in source.state_dict())
    plain = nn.ModuleDict(dict(model=MODELS.build(config(5))))
    target.load_state_dict(plain.state_dict())
    assert_equal(plain['model'].state_dict(), target['model'].creator.state_dict())


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_share_and_load_like_the_original(duplicate):
    model = trained()
    twin = duplicate(model)
    assert_equal(model.state_dict(), twin.state_dict())
    assert twin.creator.backbone.frozen is twin.exploiter.backbone.frozen
    assert twin.creator.backbone.frozen is not model.creator.backbone.frozen
    assert twin.data_preprocessor is twin.creator.data_preprocessor
    twin.load_state_dict(trained(7).state_dict())
    assert not torch.equal(twin.creator.backbone.adapter.weight, model.creator.backbone.adapter.weight)


def test_pretrained_as_init_cfg(tmp_path):
    torch.save(dict(state_dict=trained(3).state_dict()), tmp_path / 'model.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'model.pth'))
    model = SelfImprovingSegmentor(config(1), init_cfg=pretrained)
    model.init_weights()
    assert_equal(trained(3).state_dict(), model.state_dict())
    with pytest.raises(ValueError, match='Pretrained.*init_cfg of `segmentor`'):
        SelfImprovingSegmentor(config(1), init_cfg=dict(type='Normal', layer='Conv2d'))
