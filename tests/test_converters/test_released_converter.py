"""tools/model_converters/released.py against the names of the released code and what its adapter computes."""

import importlib.util
from pathlib import Path

import pytest
import released_reference as reference
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from safetensors.torch import load_file

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.converters.bae import Bae
from mmdiff2in1.converters.base import convert
from mmdiff2in1.converters.released import HEAD, LAYOUT, NECK, Released
from mmdiff2in1.converters.table_converter import module_shapes
from mmdiff2in1.models.checkpoints import load_weights
from mmdiff2in1.models.decode_heads.bae_normal_head import BaeNormalHead
from mmdiff2in1.models.necks import ReleasedAdapter

ROOT = Path(__file__).parents[2]
WIDTHS, POINTS = (16, 16, 8, 8), 12
FINE_TO_COARSE = reference.TINY['finer'][::-1] + reference.TINY['widths'][2::-1]


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def tool():
    spec = importlib.util.spec_from_file_location('released', ROOT / 'tools/model_converters/released.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def decoder_shapes(skips, widths, points):
    """Name → shape of `checkpoint_bae_45.pth`, Bae et al.'s decoder with group normalisation."""
    coarsest, *others = skips
    shapes = {'conv2.weight': (coarsest, coarsest, 1, 1), 'conv2.bias': (coarsest,)}
    for i, (into, skip, out) in enumerate(zip([coarsest, *widths[:-1]], others, widths, strict=True), 1):
        for layer, before in ((0, into + skip), (3, out)):
            shapes |= {f'up{i}._net.{layer}.weight': (out, before, 3, 3), f'up{i}._net.{layer}.bias': (out,)}
            shapes |= {f'up{i}._net.{layer + 1}.{part}': (out,) for part in ('weight', 'bias')}
    shapes |= {'out_conv_res8.weight': (4, widths[1], 3, 3), 'out_conv_res8.bias': (4,)}
    for scale, features in zip((4, 2, 1), widths[1:], strict=True):
        sizes = [features + 4, points, points, points, 4]
        for layer, a, b in zip((0, 2, 4, 6), sizes[:-1], sizes[1:], strict=True):
            shapes |= {f'out_conv_res{scale}.{layer}.weight': (b, a, 1), f'out_conv_res{scale}.{layer}.bias': (b,)}
    return shapes


def files(folder):
    """Both files in float32, and what they hold."""
    adapter = reference.state(dtype=torch.float32, **reference.TINY)
    g = torch.Generator().manual_seed(3)
    shapes = decoder_shapes(FINE_TO_COARSE[::-1], WIDTHS, POINTS)
    decoder = {name: torch.randn(shape, generator=g) * 0.2 for name, shape in shapes.items()}
    torch.save(adapter, folder / 'checkpoint_45.pth')
    torch.save(decoder, folder / 'checkpoint_bae_45.pth')
    return adapter, decoder


def segmentor(diffusion):
    head = dict(type='BaeNormalHead', in_channels=FINE_TO_COARSE, widths=WIDTHS, point_channels=POINTS)
    return MODELS.build(
        dict(
            type='DenseEstimator',
            task=dict(type='SurfaceNormal', kappa=True),
            backbone=dict(type='DiffusionBackbone', diffusion=diffusion, feature=dict(preset='released')),
            neck=dict(type='ReleasedAdapter', in_channels=reference.TINY['given'][::-1], out_channels=FINE_TO_COARSE),
            decode_head=dict(type='GenerativeDecodeHead', head=head),
            test_cfg=dict(mode='whole'),
        )
    ).eval()


def test_names_and_shapes_of_the_published_size():
    """Every tensor of both files has a place or a reason; ours are complete."""
    adapter = reference.shapes(**reference.PUBLISHED)
    decoder = decoder_shapes((2048, 176, 64, 40, 24), (1024, 512, 256, 128), 128)
    with torch.device('meta'):
        needed = module_shapes({'neck': ReleasedAdapter(), 'decode_head.head': BaeNormalHead()})
    places = {}
    unused = {reason: [name for name in adapter if LAYOUT.reason(name) == reason] for reason in LAYOUT.unused}
    for name, shape in (adapter | decoder).items():
        if LAYOUT.reason(name) is None:
            (ours,) = LAYOUT.place(name).names
            assert LAYOUT.theirs(ours) == name and ours not in places
            places[ours] = shape
    assert needed.items() >= places.items()
    assert all(name.endswith('num_batches_tracked') for name in needed.keys() - places.keys())
    logged, unread = unused.values()
    assert len(logged) == 9 and sum(torch.Size(adapter[name]).numel() for name in unread) == pytest.approx(34e6, 1e-3)
    attention = torch.nn.MultiheadAttention(512, 8, bias=False).state_dict()  # which theirs is
    for name, tensor in attention.items():
        assert adapter[f'transfromer_decoder.layers.2.self_attn.{name}'] == tensor.shape
    assert sum('layers.2.self_attn' in name for name in unread) == len(attention)


def test_a_file_becomes_ours_and_computes_the_same(tmp_path, tiny_diffusion, tiny_diffusion_config):
    adapter, decoder = files(tmp_path)
    converter = Released(tmp_path / 'checkpoint_bae_45.pth', tiny_diffusion)
    converted = convert(converter, tmp_path / 'checkpoint_45.pth', tmp_path / 'ours.safetensors')
    model = segmentor(tiny_diffusion_config)
    load_weights(model, tmp_path / 'ours.safetensors')
    state = model.state_dict()
    for name, tensor in (adapter | decoder).items():
        if LAYOUT.reason(name) is None:
            assert torch.equal(state[LAYOUT.place(name).names[0]], tensor), name
    with torch.no_grad():
        assert torch.equal(state['backbone.tokens'], tiny_diffusion.encode_prompt([''])[0][0])
    sizes = [(16, 16), (8, 8), (4, 4), (2, 2)]
    maps = [torch.randn(2, c, *size) for c, size in zip(reference.TINY['given'][::-1], sizes, strict=True)]
    with torch.no_grad():
        found, expected = model.neck(maps), reference.adapter(adapter, maps[::-1])[::-1]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    report = converter.report(converted, 'ours')
    for part in ('adapter', 'decoder', 'point heads', 'empty prompt'):
        assert f'\n{part}' in report
    assert "type='ReleasedAdapter', in_channels=[6, 8, 10, 12], out_channels=[4, 6, 8, 8, 16]" in report
    assert 'that the released code never reads' in report and 'which are only logged' in report


def test_and_theirs_again(tmp_path, tiny_diffusion, tiny_diffusion_config, capsys):
    """Two files with all of their names and shapes; what is read is the same, singular values are those of u."""
    adapter, decoder = files(tmp_path)
    weights = tmp_path / 'weights'
    tiny_diffusion.save_folder(weights)
    arguments = ['--decoder', str(tmp_path / 'checkpoint_bae_45.pth'), '--diffusion', str(weights)]
    tool().main([str(tmp_path / 'checkpoint_45.pth'), *arguments, '--out', str(tmp_path / 'ours.pth')])
    assert 'Diff-2-in-1, released code' in capsys.readouterr().out
    model = segmentor(tiny_diffusion_config)
    load_weights(model, tmp_path / 'ours.pth')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'trained.pth')  # with all of the diffusion model
    back = tmp_path / 'back'
    out, beside = back / 'checkpoint_0.pth', back / 'checkpoint_bae_0.pth'
    tool().main([str(tmp_path / 'trained.pth'), '--to', 'theirs', '--out', str(out), '--decoder', str(beside)])
    found, found_decoder = torch.load(out, weights_only=True), torch.load(beside, weights_only=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    assert shapes == reference.shapes(**reference.TINY)
    assert found_decoder.keys() == decoder.keys()
    assert all(torch.equal(tensor, decoder[name]) for name, tensor in found_decoder.items())
    for name, tensor in found.items():
        if LAYOUT.reason(name) is None:
            assert torch.equal(tensor, adapter[name]), name
        elif name.endswith('sv0'):
            place = name.removesuffix('sv0')
            matrix = adapter[f'{place}weight'].flatten(1)
            right = torch.nn.functional.normalize(adapter[f'{place}u0'] @ matrix)
            torch.testing.assert_close(tensor[0], (right @ matrix.T).norm())
        else:
            assert not tensor.any()


def test_what_does_not_fit_is_told(tmp_path, tiny_diffusion):
    adapter, decoder = files(tmp_path)
    first, second = tmp_path / 'checkpoint_45.pth', tmp_path / 'checkpoint_bae_45.pth'
    with pytest.raises(ValueError, match='no --diffusion is given: the tokens of the empty prompt'):
        convert(Released(second), first)
    with pytest.raises(ValueError, match='found its decoder, which belongs to --decoder'):
        convert(Released(first, tiny_diffusion), second)
    with pytest.raises(ValueError, match='a tensor that Diff-2-in-1 has is missing: '):
        convert(Released(first, tiny_diffusion), first)
    del decoder['up2._net.0.bias']
    torch.save(decoder | dict(stranger=torch.ones(1)), second)
    with pytest.raises(ValueError, match='without a place 1: stranger; missing 1: up2._net.0.bias'):
        convert(Released(second, tiny_diffusion), first)
    with pytest.raises(ValueError, match=r'which mmdiff2in1 convert released converts'):
        convert(Bae(), first)
    ours = {f'{NECK}laterals.0.weight': torch.ones(1), f'{HEAD}bottleneck.weight': torch.ones(1)}
    torch.save(dict(state_dict=ours), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='expected tensors under neck.mixes.'):
        convert(Released(second), tmp_path / 'other.pth', to='theirs')


def test_both_files_need_a_name_of_their_own(tmp_path, tiny_diffusion):
    files(tmp_path)
    first, second = tmp_path / 'checkpoint_45.pth', tmp_path / 'checkpoint_bae_45.pth'
    convert(Released(second, tiny_diffusion), first, tmp_path / 'ours.safetensors')
    assert f'{NECK}mixes.0.shortcut.u' in load_file(tmp_path / 'ours.safetensors')
    with pytest.raises(ValueError, match='theirs are two files'):
        convert(Released(tmp_path / 'x.pth'), tmp_path / 'ours.safetensors', tmp_path / 'x.pth', to='theirs')
