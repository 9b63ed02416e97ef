"""What θ_C and θ_E share, what the moving average touches, and that θ_C never trains.

The fake backbone is frozen up to a 1 x 1 convolution, which is trained; images are 16 x 16, K = 3 classes.
"""

from dataclasses import dataclass

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmdiff2in1.models.self_improving import SelfImprovingSegmentor

K, SIZE = 3, 16
MIXED = [False, True, True]


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@dataclass
class FakeFeatures:
    """Frozen features; anything but a tensor, a list or a tuple."""

    maps: Tensor

    def __getitem__(self, index):
        return FakeFeatures(self.maps[index])


@MODELS.register_module()
class FakeFrozenBackbone(BaseModule):
    """Frozen convolution with a random draw, as a VAE has, then a trained 1 x 1 convolution."""

    calls = 0

    def __init__(self, trained_frozen=False):
        super().__init__()
        self.frozen = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.5))
        self.frozen.requires_grad_(trained_frozen)
        self.adapter = nn.Conv2d(8, 8, 1)

    def frozen_modules(self):
        return [self.frozen]

    def frozen_features(self, images):
        type(self).calls += 1
        assert not torch.is_grad_enabled() or not self.frozen[0].weight.requires_grad
        maps = self.frozen(images)
        return FakeFeatures(maps + torch.randn_like(maps))

    def forward(self, x):
        if isinstance(x, Tensor):
            x = self.frozen_features(x)
        return (self.adapter(x.maps),)


@pytest.fixture(autouse=True)
def count_calls():
    FakeFrozenBackbone.calls = 0


def config(**backbone):
    head = dict(
        type='FCNHead', in_channels=8, in_index=0, channels=4, num_convs=1, concat_input=False, dropout_ratio=0,
        num_classes=K, norm_cfg=dict(type='BN'),
    )  # fmt: skip
    backbone = dict(type='FakeFrozenBackbone') | backbone
    return ConfigDict(type='EncoderDecoder', backbone=backbone, decode_head=head, test_cfg=dict(mode='whole'))


def wrap(**settings):
    torch.manual_seed(0)
    model = SelfImprovingSegmentor(config(), **settings)
    model.init_weights()
    for _, creator, _ in own_pairs(model):
        creator.data += 0.1
    return model.train()


def own_pairs(model):
    frozen = {id(tensor) for tensor in model.exploiter.backbone.frozen.state_dict(keep_vars=True).values()}
    for (name, creator), (_, exploiter) in zip(
        model.creator.named_parameters(), model.exploiter.named_parameters(), strict=True
    ):
        if id(exploiter) not in frozen:
            yield name, creator, exploiter


def samples(synthetic=MIXED):
    made = []
    for flag in synthetic:
        sample = SegDataSample(metainfo=dict(synthetic=flag, img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE)))
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, SIZE, SIZE, dtype=torch.long))
        made.append(sample)
    return made


def images():
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_frozen_modules_are_one_object_and_counted_once():
    model = wrap()
    assert model.creator.backbone.frozen is model.exploiter.backbone.frozen
    assert model.creator.backbone.adapter is not model.exploiter.backbone.adapter
    plain = MODELS.build(config())
    frozen = sum(p.numel() for p in plain.backbone.frozen.parameters())
    whole = sum(p.numel() for p in plain.parameters())
    assert sum(p.numel() for p in model.parameters()) == 2 * whole - frozen


def test_state_dict_holds_shared_tensors_once():
    keys, plain = set(wrap().state_dict()), set(MODELS.build(config()).state_dict())
    own = {key for key in plain if not key.startswith('backbone.frozen.')}
    assert keys == {f'exploiter.{key}' for key in plain} | {f'creator.{key}' for key in own}
    assert len(own) < len(plain)


def test_frozen_part_runs_once_per_mixed_batch_and_both_models_see_its_draw():
    model = wrap()
    seen = {}
    for name in ('creator', 'exploiter'):
        adapter = getattr(model, name).backbone.adapter
        adapter.register_forward_pre_hook(lambda module, x, name=name: seen.update({name: x[0]}))
    model.loss(images(), samples())
    assert FakeFrozenBackbone.calls == 1
    assert torch.equal(seen['creator'], seen['exploiter'][1:])
    model.loss(images(), samples([True] * 3))
    assert FakeFrozenBackbone.calls == 2
    assert torch.equal(seen['creator'], seen['exploiter'])
    model.loss(images(), samples([False] * 3))
    assert FakeFrozenBackbone.calls == 3


def test_gradients_with_sharing():
    model = wrap()
    model.parse_losses(model.loss(images(), samples()))[0].backward()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all(name.startswith('exploiter.') and '.frozen.' not in name for name in trained)
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_what_is_trained_must_not_be_shared():
    with pytest.raises(ValueError, match='FakeFrozenBackbone.*4 parameters that are trained.*requires_grad=False'):
        SelfImprovingSegmentor(config(trained_frozen=True))


def test_creator_and_shared_parts_stay_in_eval_mode():
    model = wrap()
    assert all(model.train().exploiter.decode_head.modules())
    assert model.exploiter.training and model.exploiter.decode_head.training
    assert not any(module.training for module in model.creator.modules())
    assert not model.exploiter.backbone.frozen[1].training
    before = [buffer.clone() for buffer in model.creator.buffers()]
    model.loss(images(), samples())
    assert all(torch.equal(one, other) for one, other in zip(before, model.creator.buffers(), strict=True))
    assert not model.eval().exploiter.training


def test_switching_modes_does_not_walk_through_the_creator(monkeypatch):
    model = wrap()
    own = set(map(id, model.creator.modules())) - set(map(id, model.exploiter.modules()))
    visited, train = [], nn.Module.train
    monkeypatch.setattr(nn.Module, 'train', lambda self, mode=True: (visited.append(id(self)), train(self, mode))[1])
    model.train().eval().train()
    assert own and not own & set(visited)
    model.creator.train()
    assert not any(module.training for module in model.train().creator.modules()), 'put right where it is not'


def batch(seed=0):
    """As a data loader gives it: uint8 images and samples of their own."""
    drawn = torch.randint(0, 256, (3, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return dict(inputs=list(drawn), data_samples=samples())


@pytest.mark.parametrize(('mode', 'runs'), [('whole', 1), ('slide', 8)])
def test_both_predictions_from_one_frozen_part(mode, runs):
    """Bit for bit those of `val_step`; slide inference sees four crops, of which each model makes its own features."""
    preprocessor = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3)
    model = wrap(data_preprocessor=preprocessor).eval()
    for segmentor in (model.creator, model.exploiter):
        segmentor.test_cfg = ConfigDict(mode=mode, crop_size=(10, 10), stride=(6, 6))
        segmentor.backbone.frozen[2].train()  # draws: it has to be the same draw
    expected = {}
    for which in ('creator', 'exploiter'):
        torch.manual_seed(3)
        with model.evaluated(which):
            expected[which] = model.val_step(batch())
    FakeFrozenBackbone.calls = 0
    given = batch()
    torch.manual_seed(3)
    predict = model.predictor(given)
    state = torch.get_rng_state()
    found = {}
    for which in ('creator', 'exploiter'):
        torch.set_rng_state(state)
        found[which] = predict(which)
    assert FakeFrozenBackbone.calls == runs and model.evaluate == 'creator'
    for which, samples_ in found.items():
        for one, other in zip(samples_, expected[which], strict=True):
            assert torch.equal(one.seg_logits.data, other.seg_logits.data)
            assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
            assert torch.equal(one.gt_sem_seg.data, other.gt_sem_seg.data)
            assert one.metainfo == other.metainfo
    assert not torch.equal(found['creator'][0].seg_logits.data, found['exploiter'][0].seg_logits.data)
    assert not hasattr(given['data_samples'][0], 'seg_logits'), 'the samples of the batch are not changed'


def test_the_creator_starts_as_a_copy_of_the_exploiter():
    model = SelfImprovingSegmentor(config())
    model.exploiter.decode_head.conv_seg.weight.data.fill_(7)
    model.init_weights()  # draws conv_seg anew
    of_creator, of_exploiter = model.creator.state_dict(), model.exploiter.state_dict()
    assert of_exploiter['decode_head.conv_seg.weight'].abs().max() < 0.1
    assert all(torch.equal(tensor, of_creator[name]) for name, tensor in of_exploiter.items())


def test_ema_tensors_are_aligned_and_leave_shared_ones_out():
    model = wrap()
    tensors = model.ema_tensors()
    averaged = {
        name
        for name, tensor in model.creator.state_dict(keep_vars=True).items()
        if any(tensor is other for other in tensors.averaged_creator)
    }
    bn = 'decode_head.convs.0.bn'
    assert averaged == {
        'backbone.adapter.weight', 'backbone.adapter.bias', 'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias',
        'decode_head.convs.0.conv.weight', f'{bn}.weight', f'{bn}.bias', f'{bn}.running_mean', f'{bn}.running_var',
    }  # fmt: skip
    of_exploiter = dict(model.exploiter.named_parameters()) | dict(model.exploiter.named_buffers())
    of_creator = dict(model.creator.named_parameters()) | dict(model.creator.named_buffers())
    aligned = [(id(of_creator[name]), id(tensor)) for name, tensor in of_exploiter.items()]
    for creators, exploiters in (tensors[:2], tensors[2:]):
        assert all((id(c), id(e)) in aligned for c, e in zip(creators, exploiters, strict=True))
    assert [t.dtype for t in tensors.copied_creator] == [torch.int64]  # num_batches_tracked


def test_power_iteration_vectors_and_unstored_constants_are_copied():
    torch.manual_seed(0)
    model = SelfImprovingSegmentor(config())
    for segmentor in (model.exploiter, model.creator):
        segmentor.backbone.hooked = nn.utils.spectral_norm(nn.Linear(3, 4))
        segmentor.backbone.parametrized = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 6))
        segmentor.backbone.register_buffer('mask', torch.full((7, 7), -torch.inf), persistent=False)
    copied = sorted(tuple(t.shape) for t in model.ema_tensors().copied_creator)
    assert copied == [(), (3,), (4,), (5,), (6,), (7, 7)]
    averaged = sorted(tuple(t.shape) for t in model.ema_tensors().averaged_creator)
    assert (4, 3) in averaged and (6, 5) in averaged


def test_an_average_step_over_the_tensors():
    model = wrap()
    names = [name for name, _, _ in own_pairs(model)]
    before = {name: creator.detach().clone() for name, creator, _ in own_pairs(model)}
    tensors = model.ema_tensors()
    with torch.no_grad():
        torch._foreach_lerp_(tensors.averaged_creator, tensors.averaged_exploiter, 0.25)
    after = {name: (creator, exploiter) for name, creator, exploiter in own_pairs(model)}
    for name in names:
        creator, exploiter = after[name]
        torch.testing.assert_close(creator, (0.75 * before[name] + 0.25 * exploiter), check_device=False)
