"""tools/model_converters/bae.py against the published names and an independent implementation that runs on them.

`published` builds the state dict of NNET: geffnet's EfficientNet under encoder.original_model, and the decoder.
"""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from safetensors.torch import load_file

import mmdiff2in1.components  # noqa: F401
from mmdiff2in1.converters import bae
from mmdiff2in1.converters.bae import EFFICIENTNET_B5, Bae
from mmdiff2in1.converters.base import convert
from mmdiff2in1.converters.table_converter import module_shapes
from mmdiff2in1.models.backbones.hf_backbone import HFBackbone
from mmdiff2in1.models.decode_heads.bae_normal_head import BaeNormalHead

ROOT = Path(__file__).parents[2]
TINY = dict(EFFICIENTNET_B5, width_coefficient=0.25, depth_coefficient=0.4, hidden_dim=320)
WIDTHS = (32, 24, 16, 8)
# Kernel, stride, expansion, channels and repeats of B0's seven stages.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
          (3, 1, 6, 320, 1))  # fmt: skip
E, D = 'encoder.original_model.', 'decoder.'


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def tool():
    spec = importlib.util.spec_from_file_location('bae', ROOT / 'tools' / 'model_converters' / 'bae.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rounded(channels, multiplier):
    """To a multiple of 8, never more than a tenth below."""
    channels *= multiplier
    result = max(8, int(channels + 4) // 8 * 8)
    return result + 8 if result < 0.9 * channels else result


def published(width, depth, head, widths, points, norm='GN'):
    """Name → shape."""
    shapes = {}

    def conv(name, out, into, kernel, bias=False):
        shapes[f'{name}.weight'] = (out, into, kernel, kernel)
        if bias:
            shapes[f'{name}.bias'] = (out,)

    def batch_norm(name, channels):
        shapes.update({f'{name}.{n}': (channels,) for n in ('weight', 'bias', 'running_mean', 'running_var')})
        shapes[f'{name}.num_batches_tracked'] = ()

    before = rounded(32, width)
    conv(f'{E}conv_stem', before, 3, 3)
    batch_norm(f'{E}bn1', before)
    stage_ends = []
    for s, (kernel, _, expansion, channels, repeats) in enumerate(STAGES):
        after = rounded(channels, width)
        for i in range(math.ceil(repeats * depth)):
            block, inner = f'{E}blocks.{s}.{i}', before * expansion
            if expansion > 1:
                conv(f'{block}.conv_pw', inner, before, 1)
                batch_norm(f'{block}.bn1', inner)
            shapes[f'{block}.conv_dw.weight'] = (inner, 1, kernel, kernel)
            batch_norm(f'{block}.bn{1 + (expansion > 1)}', inner)
            conv(f'{block}.se.conv_reduce', max(1, before // 4), inner, 1, bias=True)
            conv(f'{block}.se.conv_expand', inner, max(1, before // 4), 1, bias=True)
            conv(f'{block}.conv_pwl' if expansion > 1 else f'{block}.conv_pw', after, inner, 1)
            batch_norm(f'{block}.bn{2 + (expansion > 1)}', after)
            before = after
        stage_ends.append(after)
    conv(f'{E}conv_head', head, before, 1)
    batch_norm(f'{E}bn2', head)
    conv(f'{D}conv2', head, head, 1, bias=True)
    skips = [stage_ends[4], stage_ends[2], stage_ends[1], stage_ends[0]]
    for i, (into, skip, out) in enumerate(zip([head, *widths[:-1]], skips, widths, strict=True)):
        for layer, source in ((0, into + skip), (3, out)):
            conv(f'{D}up{i + 1}._net.{layer}', out, source, 3, bias=True)
            if norm == 'BN':
                batch_norm(f'{D}up{i + 1}._net.{layer + 1}', out)
            else:
                shapes.update({f'{D}up{i + 1}._net.{layer + 1}.{n}': (out,) for n in ('weight', 'bias')})
    conv(f'{D}out_conv_res8', 4, widths[1], 3, bias=True)
    for scale, features in zip((4, 2, 1), widths[1:], strict=True):
        sizes = [features + 4, points, points, points, 4]
        for layer, a, b in zip((0, 2, 4, 6), sizes[:-1], sizes[1:], strict=True):
            shapes[f'{D}out_conv_res{scale}.{layer}.weight'] = (b, a, 1)
            shapes[f'{D}out_conv_res{scale}.{layer}.bias'] = (b,)
    return shapes


def tiny_state(norm='GN', seed=0):
    """Random numbers; running variances are positive, norms near one."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in published(0.25, 0.4, 320, WIDTHS, 12, norm).items():
        if name.endswith('num_batches_tracked'):
            state[name] = torch.tensor(7)
        elif name.endswith('running_var') or len(shape) == 1 and name.endswith('weight'):
            state[name] = torch.rand(shape, generator=g) + 0.5
        else:
            fan = math.prod(shape[1:]) or 1
            state[name] = torch.randn(shape, generator=g) / math.sqrt(fan)
    return state


def saved(state, path, prefix='module.'):
    torch.save(dict(model={prefix + name: value for name, value in state.items()}, iter=7), path)
    return path


# The published model, written down once more ------------------------------------------------------------------------


def same(x, weight, stride=1, groups=1, bias=None):
    """TensorFlow's `same` convolution."""
    kernel, pads = weight.shape[-1], []
    for n in (x.shape[3], x.shape[2]):
        total = max(0, (-(-n // stride) - 1) * stride + kernel - n)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, bias, stride, groups=groups)


def encoder(state, x):
    def bn(name, x):
        s = {n: state[f'{E}{name}.{n}'] for n in ('running_mean', 'running_var', 'weight', 'bias')}
        return F.batch_norm(x, *s.values(), training=False, eps=1e-3)

    def weight(name):
        return state[f'{E}{name}.weight']

    x = F.silu(bn('bn1', same(x, weight('conv_stem'), 2)))
    features = []
    for s, (_, stage_stride, expansion, _, repeats) in enumerate(STAGES):
        for i in range(math.ceil(repeats * 0.4)):
            block, residual = f'blocks.{s}.{i}', x
            stride = stage_stride if i == 0 else 1
            if expansion > 1:
                x = F.silu(bn(f'{block}.bn1', same(x, weight(f'{block}.conv_pw'))))
            x = same(x, weight(f'{block}.conv_dw'), stride, groups=x.shape[1])
            x = F.silu(bn(f'{block}.bn{1 + (expansion > 1)}', x))
            squeezed = x.mean((2, 3), keepdim=True)
            for name, activation in (('conv_reduce', F.silu), ('conv_expand', torch.sigmoid)):
                squeezed = activation(
                    same(squeezed, weight(f'{block}.se.{name}'), bias=state[f'{E}{block}.se.{name}.bias'])
                )
            x = same(x * squeezed, weight(f'{block}.conv_pwl' if expansion > 1 else f'{block}.conv_pw'))
            x = bn(f'{block}.bn{2 + (expansion > 1)}', x)
            if i > 0:
                x = x + residual
        features.append(x)
    return [features[0], features[1], features[2], features[4], same(x, weight('conv_head'))]


def decoder(state, features, norm):
    def conv(name, x, standardise=False):
        w, b = state[f'{D}{name}.weight'], state[f'{D}{name}.bias']
        if standardise:
            w = w - w.mean((1, 2, 3), keepdim=True)
            w = w / (w.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, w, b, padding=w.shape[-1] // 2)

    def resized(x, size):
        return F.interpolate(x, size, mode='bilinear', align_corners=True)

    def activated(x):
        return torch.cat([x[:, :3] / x[:, :3].norm(dim=1, keepdim=True), F.elu(x[:, 3:]) + 1.01], 1)

    *skips, x = features
    x, maps = conv('conv2', x), []
    for i, skip in enumerate(reversed(skips)):
        x = torch.cat([resized(x, skip.shape[2:]), skip], 1)
        for layer in (0, 3):
            x = conv(f'up{i + 1}._net.{layer}', x, norm == 'GN')
            name = f'{D}up{i + 1}._net.{layer + 1}'
            affine = state[f'{name}.weight'], state[f'{name}.bias']
            if norm == 'GN':
                x = F.group_norm(x, 8, *affine)
            else:
                x = F.batch_norm(x, state[f'{name}.running_mean'], state[f'{name}.running_var'], *affine)
            x = F.leaky_relu(x, 0.01)
        maps.append(x)
    output = activated(conv('out_conv_res8', maps[1]))
    for scale, x in zip((4, 2, 1), maps[1:], strict=True):
        size = (2 * x.shape[2], 2 * x.shape[3])
        x = torch.cat([resized(x, size), resized(output, size)], 1).flatten(2)
        for layer in (0, 2, 4, 6):
            name = f'{D}out_conv_res{scale}.{layer}'
            x = F.conv1d(F.relu(x) if layer else x, state[f'{name}.weight'], state[f'{name}.bias'])
        output = activated(x).unflatten(2, size)
    return output


# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('norm', ['GN', 'BN'])
def test_a_converted_checkpoint_predicts_what_the_published_model_does(tmp_path, monkeypatch, capsys, norm):
    state = tiny_state(norm)
    path, out = saved(state, tmp_path / 'nyu.pt'), tmp_path / 'out.safetensors'
    monkeypatch.setattr(bae, 'EFFICIENTNET_B5', TINY)
    tool().main([str(path), '--out', str(out)])
    printed = capsys.readouterr().out
    converted = convert(Bae(), path)
    assert f'Bae et al., {norm}' in printed and 'in_channels=[8, 8, 16, 32, 320]' in printed
    written = load_file(out)
    assert written.keys() == converted.state.keys() and len(written) == len(state)
    backbone, head = (
        dict(converted.settings['backbone'], type='HFBackbone'),
        dict(converted.settings['head'], type='BaeNormalHead'),
    )
    model = MODELS.build(dict(type='EncoderDecoder', backbone=backbone, decode_head=head)).eval()
    model.load_state_dict(written, strict=True)
    for size in ((64, 96), (96, 64)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            features, expected = model.extract_feat(images), encoder(state, images)
            for ours, theirs in zip(features, expected, strict=True):
                assert theirs.std() > 0.05
                torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
            found = model.decode_head.predict(features, [dict(img_shape=size)] * 2, None)
            torch.testing.assert_close(found, decoder(state, expected, norm), atol=1e-4, rtol=1e-4)


def test_odd_sizes_are_padded_as_the_published_encoder_pads(tmp_path):
    state = tiny_state()
    converted = convert(Bae(TINY), saved(state, tmp_path / 'nyu.pt', prefix=''))
    backbone = HFBackbone(**converted.settings['backbone']).eval()
    backbone.load_state_dict({k.removeprefix('backbone.'): v for k, v in converted.state.items() if 'backbone.' in k})
    images = torch.randn(1, 3, 75, 101)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images), encoder(state, images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('norm', ['GN', 'BN'])
def test_every_published_tensor_of_b5_has_one_of_ours_and_back(norm):
    shapes = published(1.6, 2.2, 2048, (1024, 512, 256, 128), 128, norm)
    assert len([name for name in shapes if name.endswith('conv_dw.weight')]) == 3 + 5 + 5 + 7 + 7 + 9 + 3
    assert shapes[f'{D}up1._net.0.weight'] == (1024, 2048 + 176, 3, 3)
    theirs = {name: torch.empty(shape, device='meta') for name, shape in shapes.items()}
    ours = Bae().to_ours(theirs)
    places = {name: place for name, (place,) in ours.places.items()}
    head = ours.settings['head']
    assert head['in_channels'] == [24, 40, 64, 176, 2048] and head['norm'] == norm
    with torch.device('meta'):
        needed = module_shapes({'backbone': HFBackbone(EFFICIENTNET_B5), 'decode_head': BaeNormalHead(**head)})
    assert len(set(places.values())) == len(shapes) == len(needed)
    assert {places[name]: shape for name, shape in shapes.items()} == needed
    assert {name: tuple(tensor.shape) for name, tensor in ours.state.items()} == needed
    back = Bae().to_theirs(ours.state)
    assert {name: tuple(tensor.shape) for name, tensor in back.state.items()} == shapes
    assert back.places == {place: (name,) for name, place in places.items()}


@pytest.mark.parametrize('norm', ['GN', 'BN'])
def test_the_way_back_writes_their_file(tmp_path, monkeypatch, capsys, norm):
    state = tiny_state(norm)
    monkeypatch.setattr(bae, 'EFFICIENTNET_B5', TINY)
    ours, back = tmp_path / 'ours.pth', tmp_path / 'back.pth'
    tool().main([str(saved(state, tmp_path / 'nyu.pt')), '--out', str(ours)])
    tool().main([str(ours), '--out', str(back), '--to', 'theirs'])
    assert f'moved: {len(state)} tensors of the file\n' in capsys.readouterr().out
    written = torch.load(back, weights_only=True)
    assert list(written) == ['model'] and written['model'].keys() == state.keys()
    assert all(torch.equal(written['model'][name], tensor) for name, tensor in state.items())


def test_faults_of_the_way_back_are_named(tmp_path):
    ours = convert(Bae(TINY), saved(tiny_state(), tmp_path / 'nyu.pt')).state
    for fault, expected in (
        (ours | {'backbone.model.extra': torch.ones(1)}, r'without a place 1: backbone\.model\.extra'),
        (
            ours | {'decode_head.bottleneck.bias': torch.ones(3)},
            r'shape 1: decode_head\.bottleneck\.bias \[3\], expected \[320\]',
        ),
        ({n: t for n, t in ours.items() if not n.endswith('top_bn.bias')}, r'missing 1: backbone\..*\.top_bn\.bias'),
        ({n: t for n, t in ours.items() if 'fusions.1.0' not in n}, r'is missing: decode_head\.fusions\.1\.0\.weight'),
    ):
        torch.save(dict(state_dict=fault), tmp_path / 'ours.pth')
        with pytest.raises(ValueError, match=expected):
            convert(Bae(TINY), tmp_path / 'ours.pth', to='theirs')
    for state, kind in (
        (tiny_state(), 'a checkpoint of Bae et al. with point heads, which --to ours converts'),
        ({f'exploiter.{name}': tensor for name, tensor in ours.items()}, 'a self-improving checkpoint of mmdiff2in1'),
    ):
        torch.save(state, tmp_path / 'other.pth')
        with pytest.raises(ValueError, match=f'is no checkpoint of mmdiff2in1; found {kind}'):
            convert(Bae(TINY), tmp_path / 'other.pth', to='theirs')


def test_faults_are_named(tmp_path):
    state = tiny_state()
    for fault, expected in (
        (
            {f'{E}blocks.1.0.extra.weight': torch.ones(1)},
            r'without a place 1: encoder\.original_model\.blocks\.1\.0\.ext',
        ),
        ({'aux.weight': torch.ones(1)}, r'without a place 1: aux\.weight'),
        ({f'{D}out_conv_res8.bias': torch.ones(3)}, r'shape 1: decoder\.out_conv_res8\.bias \[3\], expected \[4\]'),
    ):
        with pytest.raises(ValueError, match=expected):
            convert(Bae(TINY), saved(state | fault, tmp_path / 'nyu.pt'))
    for missing, expected in (
        (f'{E}bn1.bias', r'missing 1: encoder\.original_model\.bn1\.bias'),
        (f'{D}conv2.bias', r'missing 1: decoder\.conv2\.bias'),
        (f'{D}up2._net.0.weight', r'is missing: decoder\.up2\._net\.0\.weight'),
    ):
        rest = {name: value for name, value in state.items() if name != missing}
        with pytest.raises(ValueError, match=expected):
            convert(Bae(TINY), saved(rest, tmp_path / 'nyu.pt'))
    with pytest.raises(ValueError, match='is not a checkpoint that Bae et al. published'):
        convert(Bae(), saved(state, tmp_path / 'nyu.pt'))  # not B5


def test_other_files_are_recognised(tmp_path):
    for name, kind in (
        ('encoder.original_model.conv_stem.weight', 'another decoder on this encoder'),
        ('decode_head.point_heads.0.0.weight', 'a checkpoint of mmdiff2in1'),
        ('layer1.weight', 'another layout'),
    ):
        torch.save({name: torch.ones(1)}, tmp_path / 'other.pt')
        with pytest.raises(ValueError, match=f'is no checkpoint of Bae et al. with point heads; found {kind}'):
            convert(Bae(), tmp_path / 'other.pt')
    with pytest.raises(SystemExit, match='no such file of weights'):
        tool().main([str(tmp_path / 'nothing.pt'), '--out', str(tmp_path / 'out.pth')])


def test_the_command_line_refuses_before_it_reads(capsys):
    for arguments, expected in (
        (['nyu.pt', '--out', 'out.bin'], 'expected a .safetensors or .pth file'),
        (['nyu.pth', '--out', './nyu.pth'], 'is the checkpoint itself'),
    ):
        with pytest.raises(SystemExit):
            tool().main(arguments)
        assert expected in capsys.readouterr().err
