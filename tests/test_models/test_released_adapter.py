"""ReleasedAdapter against a second writing of what the released code computes; its spectral normalisation.

Inputs at strides 8 … 64 of a small image, fine to coarse.
"""

import pytest
import released_reference as reference
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn

import mmdiff2in1.models  # noqa: F401  registers
from mmdiff2in1.converters.released import LAYOUT, NECK
from mmdiff2in1.models.necks import ReleasedAdapter
from mmdiff2in1.models.necks.spectral_convolution import SpectralConv2d
from mmdiff2in1.models.self_improving.parameter_pairs import ema_tensors

SIZES = [(16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def built(state=None, **settings):
    tiny = reference.TINY
    neck = ReleasedAdapter(tiny['given'][::-1], tiny['finer'][::-1] + tiny['widths'][2::-1], **settings).double()
    if state is not None:
        read = {name: LAYOUT.place(name) for name in state if LAYOUT.reason(name) is None}
        own = {place.names[0].removeprefix(NECK): state[name] for name, place in read.items()}
        missing, unexpected = neck.load_state_dict(own, strict=False)
        assert not unexpected and all(name.endswith('num_batches_tracked') for name in missing)
    return neck


def inputs(sizes=SIZES, seed=1):
    g = torch.Generator().manual_seed(seed)
    channels = reference.TINY['given'][::-1]
    return [torch.randn(2, c, *size, generator=g, dtype=torch.float64) for c, size in zip(channels, sizes, strict=True)]


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('sizes', [SIZES, [(15, 20), (8, 10), (4, 5), (2, 3)]])
def test_it_computes_what_the_released_adapter_computes(training, sizes):
    """Twice, so that running statistics and singular vectors have moved; outputs, gradients, buffers."""
    state = reference.state()
    neck, maps = built(state).train(training), inputs(sizes)
    weight = state['mid_feature_mix_conv.conv1.weight'].requires_grad_()
    for _ in range(2):
        found, expected = neck(maps), reference.adapter(state, maps[::-1], training)[::-1]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)
    assert [tuple(x.shape[1:]) for x in found] == [
        (channels, factor * sizes[level][0], factor * sizes[level][1])
        for channels, factor, level in ((4, 4, 0), (6, 2, 0), (8, 1, 0), (8, 1, 1), (16, 1, 2))
    ]
    sum(x.square().sum() for x in found).backward()
    sum(x.square().sum() for x in expected).backward()
    torch.testing.assert_close(neck.mixes[2].convs[0].weight.grad, weight.grad)
    torch.testing.assert_close(neck.mixes[1].shortcut.u, state['high_feature_mix_conv.conv_sc.u0'])
    torch.testing.assert_close(neck.mixes[0].norms[1].running_var, state['highest_feature_mix_conv.stored_var2'])
    assert found[1].min() == 0 and found[0].min() < 0 and found[2].min() < 0  # one output has gone through a ReLU


def test_every_parameter_learns():
    neck = built().train()
    sum(x.square().sum() for x in neck(inputs())).backward()
    still = [name for name, p in neck.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias in front of a batch norm cannot matter.
    assert all(name.endswith('bias') for name in still)


def test_published_size():
    with torch.device('meta'):
        neck = MODELS.build(dict(type='ReleasedAdapter'))
        maps = [torch.empty(2, c, s, s) for c, s in zip((2560, 4160, 7040, 7680), (64, 32, 16, 8), strict=True)]
        found = neck(maps)
    assert [tuple(x.shape[1:]) for x in found] == [
        (24, 256, 256), (40, 128, 128), (64, 64, 64), (176, 32, 32), (2048, 16, 16)
    ]  # fmt: skip
    read = reference.shapes(**reference.PUBLISHED, unread=False)
    buffers = ('u0', 'sv0', 'tracked', 'running_mean', 'running_var')
    expected = sum(
        torch.Size(shape).numel() for name, shape in read.items() if not name.endswith(buffers) and 'stored' not in name
    )
    assert sum(p.numel() for p in neck.parameters()) == expected
    with pytest.raises(ValueError, match='expected four widths and five; DiffusionPyramidAdapter takes any pyramid'):
        ReleasedAdapter([1, 2, 3])


def test_the_estimate_becomes_the_largest_singular_value():
    torch.manual_seed(0)
    conv = SpectralConv2d(5, 7, 3, padding=1).double().train()
    expected = torch.linalg.matrix_norm(conv.weight.flatten(1), 2)
    for _ in range(200):
        conv.singular_value()
    torch.testing.assert_close(conv.singular_value(), expected)
    before = conv.eval().u.clone()
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(conv(x), nn.functional.conv2d(x, conv.weight / expected, conv.bias, padding=1))
    assert torch.equal(conv.u, before)


def test_singular_vectors_are_copied_to_the_creator_not_averaged():
    creator, exploiter = built(), built()
    tensors = ema_tensors(creator, exploiter)
    copied = {id(tensor) for tensor in tensors.copied_exploiter}
    vectors = {id(tensor) for name, tensor in exploiter.named_buffers() if name.endswith('.u')}
    assert len(vectors) == 9 and vectors <= copied
    assert not vectors & {id(tensor) for tensor in tensors.averaged_exploiter}
