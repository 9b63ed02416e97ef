"""tools/model_converters/idisc.py: names of the published size, and numbers against a reference on the published names.

The reference is written out from the papers of Swin, deformable DETR and iDisc; it knows nothing of our modules.
"""

import importlib.util
import math
from pathlib import Path

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from safetensors.torch import load_file, save_file

import mmdiff2in1.components
import mmdiff2in1.models.backbones.hf_backbone
import mmdiff2in1.models.decode_heads.idisc_head
import mmdiff2in1.models.losses.angular_vmf  # noqa: F401
from mmdiff2in1.converters.base import convert
from mmdiff2in1.converters.idisc import LAYOUT, IDisc
from mmdiff2in1.converters.table_converter import module_shapes
from mmdiff2in1.models.backbones.hf_backbone import HFBackbone
from mmdiff2in1.models.checkpoints import load_weights
from mmdiff2in1.models.decode_heads.idisc_head import IDiscHead

ROOT = Path(__file__).parents[2]
NORMAL = dict(type='SurfaceNormal', kappa=True)
LARGE = dict(width=192, depths=[2, 2, 18, 2], heads=[6, 12, 24, 48], window=7)
TINY = dict(width=8, depths=[2, 1, 2, 1], heads=[1, 2, 2, 4], window=2, C=16, N=3, D=8, layers=2)
UNUSED = [f'backbone.model.swin.layernorm.{kind}' for kind in ('weight', 'bias')]


def tool():
    spec = importlib.util.spec_from_file_location('idisc', ROOT / 'tools' / 'model_converters' / 'idisc.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def published_shapes(width, depths, heads, window, C=256, N=32, D=128, layers=4, out=4):
    """Name → shape in a published checkpoint."""
    shapes = {}

    def linear(name, inside, outside, bias=True):
        shapes[f'{name}.weight'] = (outside, inside)
        if bias:
            shapes[f'{name}.bias'] = (outside,)

    def norm(name, channels):
        shapes[f'{name}.weight'] = shapes[f'{name}.bias'] = (channels,)

    def convolution(name, inside, outside, side):
        shapes[f'{name}.weight'] = (outside, inside, side, side)

    def attention(name, queries, context):
        norm(f'{name}.norm', queries)
        norm(f'{name}.norm_context', context)
        linear(f'{name}.to_q', queries, queries)
        linear(f'{name}.to_kv', context, 2 * queries)
        linear(f'{name}.to_out', queries, queries)

    def mlp(name, channels):
        norm(f'{name}.0', channels)
        linear(f'{name}.1', channels, 4 * channels)
        linear(f'{name}.3', 4 * channels, channels)

    widths = [width * 2**i for i in range(4)]
    convolution('pixel_encoder.patch_embed.proj', 3, width, 4)
    shapes['pixel_encoder.patch_embed.proj.bias'] = (width,)
    norm('pixel_encoder.patch_embed.norm', width)
    for i, (own, depth) in enumerate(zip(widths, depths, strict=True)):
        for j in range(depth):
            block = f'pixel_encoder.layers.{i}.blocks.{j}'
            norm(f'{block}.norm1', own)
            shapes[f'{block}.attn.relative_position_bias_table'] = ((2 * window - 1) ** 2, heads[i])
            shapes[f'{block}.attn.relative_position_index'] = (window**2, window**2)
            linear(f'{block}.attn.qkv', own, 3 * own)
            linear(f'{block}.attn.proj', own, own)
            norm(f'{block}.norm2', own)
            linear(f'{block}.mlp.fc1', own, 4 * own)
            linear(f'{block}.mlp.fc2', 4 * own, own)
        if i < 3:
            linear(f'pixel_encoder.layers.{i}.downsample.reduction', 4 * own, 2 * own, bias=False)
            norm(f'pixel_encoder.layers.{i}.downsample.norm', 4 * own)
        norm(f'pixel_encoder.norm{i}', own)
    for i in range(1, 4):
        shapes[f'afp.mu_{i}'] = (1, N, D)
        attention(f'afp.cross_attn_{i}_d1', D, C)
        mlp(f'afp.mlp_cross_{i}_d1', D)
        for j in (1, 2):
            attention(f'isd.head_{i}.cross_attn_{j}', C, D)
            mlp(f'isd.head_{i}.mlp_{j}', C)
        norm(f'isd.head_{i}.proj_output.0', C)
        linear(f'isd.head_{i}.proj_output.1', C, C)
        norm(f'isd.head_{i}.proj_output.2', C)
        linear(f'isd.head_{i}.proj_output.3', C, out)
    for i, own in enumerate(widths[::-1], 1):
        convolution(f'pixel_decoder.input_adapter_{i}.0', own, C, 1)
        shapes[f'pixel_decoder.input_adapter_{i}.0.bias'] = (C,)
        norm(f'pixel_decoder.input_adapter_{i}.1', C)
        for name, inside, side in (('lateral_fpn_conv', own, 1), ('out_conv', C, 1), ('fpn_conv', C, 3)):
            convolution(f'pixel_decoder.{name}_{i}', inside, C, side)
            norm(f'pixel_decoder.{name}_{i}.norm', C)
            for kind in ('mean', 'var'):
                shapes[f'pixel_decoder.{name}_{i}.norm.running_{kind}'] = (C,)
            shapes[f'pixel_decoder.{name}_{i}.norm.num_batches_tracked'] = ()
    shapes['pixel_decoder.transformer.level_embed'] = (4, C)
    for i in range(1, layers + 1):
        layer = f'pixel_decoder.transformer.encoder.layer_{i}'
        linear(f'{layer}.self_attn.sampling_offsets', C, 2 * 4 * 4 * 4)
        linear(f'{layer}.self_attn.attention_weights', C, 4 * 4 * 4)
        linear(f'{layer}.self_attn.value_proj', C, C)
        linear(f'{layer}.self_attn.output_proj', C, C)
        norm(f'{layer}.norm1', C)
        linear(f'{layer}.linear1', C, 4 * C)
        linear(f'{layer}.linear2', 4 * C, C)
        norm(f'{layer}.norm2', C)
    return shapes


def published(seed=0, **settings):
    """A tiny checkpoint, moved away from zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in published_shapes(**{**TINY, **settings}).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith('relative_position_index'):
            state[name] = torch.zeros(shape, dtype=torch.int64)
        elif name.endswith('num_batches_tracked'):
            state[name] = torch.tensor(12)
        elif name.endswith('running_var'):
            state[name] = 0.5 + noise.abs()
        elif len(shape) == 1:
            state[name] = 0.2 * noise + ('norm' in name and name.endswith('weight'))
        elif name.endswith(('bias_table', 'level_embed')) or '.mu_' in name:
            state[name] = noise
        else:
            state[name] = noise * math.prod(shape[1:]) ** -0.5
    return state


def segmentor(settings):
    swin, head = settings['swin'], settings['head']
    return MODELS.build(
        dict(
            type='DenseEstimator',
            task=NORMAL,
            backbone=dict(type='HFBackbone', model=dict(model_type='swin', **swin)),
            decode_head=dict(type='IDiscHead', task=NORMAL, **head),
            test_cfg=dict(mode='whole'),
        )
    ).eval()


# Reference ----------------------------------------------------------------------------------------------------------


class Named:
    """Layers by their names in a checkpoint."""

    def __init__(self, state):
        self.state = state

    def linear(self, name, x):
        return F.linear(x, self.state[f'{name}.weight'], self.state.get(f'{name}.bias'))

    def norm(self, name, x, eps):
        return F.layer_norm(x, x.shape[-1:], self.state[f'{name}.weight'], self.state[f'{name}.bias'], eps)

    def convolved(self, name, x):
        """Convolution, batch normalisation, GELU."""
        norm = [self.state[f'{name}.norm.{kind}'] for kind in ('running_mean', 'running_var', 'weight', 'bias')]
        weight = self.state[f'{name}.weight']
        return F.gelu(F.batch_norm(F.conv2d(x, weight, padding=weight.shape[-1] // 2), *norm))


def swin_block(net, name, x, heads, window, shift):
    """x (B, h, w, D). Every pixel attends to those of its window; a shifted window is cut where the image ends."""
    B, h, w, D = x.shape
    normed = net.norm(f'{name}.norm1', x, 1e-6)
    rows, columns = math.ceil(h / window) * window, math.ceil(w / window) * window
    padded = F.pad(normed, (0, 0, 0, columns - w, 0, rows - h))
    qkv = net.linear(f'{name}.attn.qkv', padded).reshape(B, rows, columns, 3, heads, D // heads)
    table = net.state[f'{name}.attn.relative_position_bias_table']
    read = torch.zeros(B, rows, columns, D)

    def groups(side):
        """Runs of a shifted axis that attend to each other: whole windows, and the two ends apart."""
        first = shift or window
        starts = [0, *range(first, side, window)]
        return [range(a, b) for a, b in zip(starts, [*starts[1:], side], strict=True)]

    for ys in groups(rows):
        for xs in groups(columns):
            places = [(y, x_) for y in ys for x_ in xs]
            own = torch.stack([qkv[:, y, x_] for y, x_ in places], dim=1)  # (B, n, 3, heads, D / heads)
            q, k, v = own.unbind(2)
            scores = torch.einsum('bnhd,bmhd->bhnm', q, k) * (D // heads) ** -0.5
            index = torch.tensor(
                [[(y - b + window - 1) * (2 * window - 1) + x_ - a + window - 1 for b, a in places] for y, x_ in places]
            )
            attention = (scores + table[index].permute(2, 0, 1)).softmax(-1)
            out = torch.einsum('bhnm,bmhd->bnhd', attention, v).flatten(2)
            for place, (y, x_) in enumerate(places):
                read[:, y, x_] = out[:, place]
    x = x + net.linear(f'{name}.attn.proj', read[:, :h, :w])
    hidden = F.gelu(net.linear(f'{name}.mlp.fc1', net.norm(f'{name}.norm2', x, 1e-6)))
    return x + net.linear(f'{name}.mlp.fc2', hidden)


def swin_pyramid(net, images, depths, heads, window, **_):
    weight, bias = (net.state[f'pixel_encoder.patch_embed.proj.{kind}'] for kind in ('weight', 'bias'))
    images = F.pad(images, (0, -images.shape[-1] % 4, 0, -images.shape[-2] % 4))
    x = net.norm('pixel_encoder.patch_embed.norm', F.conv2d(images, weight, bias, stride=4).permute(0, 2, 3, 1), 1e-6)
    maps = []
    for i, depth in enumerate(depths):
        for j in range(depth):
            shift = window // 2 if j % 2 else 0
            x = swin_block(net, f'pixel_encoder.layers.{i}.blocks.{j}', x, heads[i], window, shift)
        maps.append(net.norm(f'pixel_encoder.norm{i}', x, 1e-6).permute(0, 3, 1, 2))
        if i < len(depths) - 1:
            x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
            quarters = torch.cat([x[:, a::2, b::2] for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=-1)
            down = f'pixel_encoder.layers.{i}.downsample'
            x = net.linear(f'{down}.reduction', net.norm(f'{down}.norm', quarters, 1e-6))
    return maps


def positions(x):
    """(1, C, h, w), sine and cosine in turn."""
    C, h, w = x.shape[1:]
    period = 10000 ** (torch.arange(C // 2) // 2 * 2 / (C // 2))
    found = []
    for length in (h, w):
        angle = 2 * math.pi * torch.arange(1, length + 1)[:, None] / length / period
        angle[:, 1::2] += math.pi / 2
        found.append(angle.sin())
    y, x_ = found
    return torch.cat([y[:, None].expand(h, w, -1), x_[None].expand(h, w, -1)], dim=-1).permute(2, 0, 1)[None]


def deformable_layer(net, name, tokens, position, sizes, heads=4, points=4):
    B, S, C = tokens.shape
    query = net.norm(f'{name}.norm1', tokens, 1e-5) + position
    offsets = net.linear(f'{name}.self_attn.sampling_offsets', query).reshape(B, S, heads, len(sizes), points, 2)
    weights = net.linear(f'{name}.self_attn.attention_weights', query).reshape(B, S, heads, -1).softmax(-1)
    weights = weights.reshape(B, S, heads, len(sizes), points)
    values = net.linear(f'{name}.self_attn.value_proj', tokens).reshape(B, S, heads, -1)
    centres = torch.tensor([((c + 0.5) / w, (r + 0.5) / h) for h, w in sizes for r in range(h) for c in range(w)])
    read, start = torch.zeros(B, S, heads, C // heads), 0
    batch, head = torch.arange(B)[:, None, None, None], torch.arange(heads)[None, None, :, None]
    for level, (h, w) in enumerate(sizes):
        map_ = values[:, start : start + h * w].reshape(B, h, w, heads, -1)
        start += h * w
        # In pixels of this level: the centre of the query, moved by the offset; pixel 0 is centred at 0.5.
        x, y = (centres[:, None, None] * torch.tensor([w, h]) + offsets[:, :, :, level] - 0.5).unbind(-1)
        for dy in (0, 1):
            for dx in (0, 1):
                row, column = y.floor() + dy, x.floor() + dx
                share = (1 - (y - row).abs()) * (1 - (x - column).abs()) * weights[:, :, :, level]
                share = share * ((row >= 0) & (row < h) & (column >= 0) & (column < w))
                pixel = map_[batch, row.clamp(0, h - 1).long(), column.clamp(0, w - 1).long(), head]
                read = read + (share[..., None] * pixel).sum(-2)
    tokens = tokens + net.linear(f'{name}.self_attn.output_proj', read.flatten(2))
    hidden = F.gelu(net.linear(f'{name}.linear1', net.norm(f'{name}.norm2', tokens, 1e-5)))
    return tokens + net.linear(f'{name}.linear2', hidden)


def attended(net, name, queries, context, compete):
    q = net.linear(f'{name}.to_q', net.norm(f'{name}.norm', queries, 1e-6))
    k, v = net.linear(f'{name}.to_kv', net.norm(f'{name}.norm_context', context, 1e-6)).split(q.shape[-1], dim=-1)
    scores = torch.einsum('bnd,bsd->bns', q, k) / q.shape[-1] ** 0.5
    if compete:
        shares = scores.softmax(1) + 1e-6
        shares = shares / shares.sum(2, keepdim=True)
    else:
        shares = scores.softmax(2)
    return net.linear(f'{name}.to_out', torch.einsum('bns,bsd->bnd', shares, v))


def fed_forward(net, name, x):
    return net.linear(f'{name}.3', F.gelu(net.linear(f'{name}.1', net.norm(f'{name}.0', x, 1e-5))))


def reference_normals(state, images, settings):
    """(B, 4, h, w): iDisc, on the names of its checkpoint."""
    net = Named(state)
    features = swin_pyramid(net, images, **settings)[::-1]
    sizes = [tuple(x.shape[-2:]) for x in features]
    tokens, position = [], []
    for i, x in enumerate(features, 1):
        adapter = f'pixel_decoder.input_adapter_{i}'
        x = F.conv2d(x, state[f'{adapter}.0.weight'], state[f'{adapter}.0.bias'])
        x = F.group_norm(x, 1, state[f'{adapter}.1.weight'], state[f'{adapter}.1.bias'])
        tokens.append(x.flatten(2).mT)
        position.append(positions(x).flatten(2).mT + state['pixel_decoder.transformer.level_embed'][i - 1])
    tokens, position = torch.cat(tokens, 1), torch.cat(position, 1)
    for i in range(1, settings['layers'] + 1):
        tokens = deformable_layer(net, f'pixel_decoder.transformer.encoder.layer_{i}', tokens, position, sizes)
    maps, encoded, top_down = tokens.mT.split([h * w for h, w in sizes], dim=2), [], []
    for i, (x, own, size) in enumerate(zip(features, maps, sizes, strict=True), 1):
        encoded.append(net.convolved(f'pixel_decoder.out_conv_{i}', own.unflatten(2, size)))
        total = net.convolved(f'pixel_decoder.lateral_fpn_conv_{i}', x) + encoded[-1]
        if top_down:
            total = total + F.interpolate(top_down[-1], size, mode='nearest')
        top_down.append(net.convolved(f'pixel_decoder.fpn_conv_{i}', total))
    outputs = []
    for i in (1, 2, 3):
        x, pixels = encoded[i], top_down[i]
        context = (x + positions(x)).flatten(2).mT
        idrs = state[f'afp.mu_{i}'].expand(len(images), -1, -1)
        for _ in range(2):
            idrs = idrs + attended(net, f'afp.cross_attn_{i}_d1', idrs, context, compete=True)
            idrs = idrs + fed_forward(net, f'afp.mlp_cross_{i}_d1', idrs)
        pixels = (pixels + positions(pixels)).flatten(2).mT
        for j in (1, 2):
            pixels = pixels + attended(net, f'isd.head_{i}.cross_attn_{j}', pixels, idrs, compete=False)
            pixels = pixels + fed_forward(net, f'isd.head_{i}.mlp_{j}', pixels)
        last = f'isd.head_{i}.proj_output'
        pixels = net.linear(f'{last}.1', net.norm(f'{last}.0', pixels, 1e-5))
        raw = net.linear(f'{last}.3', net.norm(f'{last}.2', pixels, 1e-5)).mT.unflatten(2, sizes[i])
        raw = F.interpolate(raw, sizes[3], mode='bilinear', align_corners=True)
        vectors = raw[:, :3] / (raw[:, :3].square().sum(1, keepdim=True) + 1e-6).sqrt()
        outputs.append(torch.cat([vectors, F.elu(raw[:, 3:]) + 1.01], dim=1))
    return sum(outputs) / 3


# Names --------------------------------------------------------------------------------------------------------------


def test_names_and_shapes_of_the_published_size_go_there_and_back():
    shapes = published_shapes(**LARGE)
    swin = dict(embed_dim=192, depths=[2, 2, 18, 2], num_heads=[6, 12, 24, 48], window_size=7)
    with torch.device('meta'):
        needed = module_shapes(
            {
                'backbone': HFBackbone(dict(model_type='swin', mlp_ratio=4.0, layer_norm_eps=1e-6, **swin)),
                'decode_head': IDiscHead(task=NORMAL, in_channels=[192, 384, 768, 1536]),
            }
        )
    ours = IDisc().to_ours({name: torch.empty(shape, device='meta') for name, shape in shapes.items()})
    assert ours.settings['swin'] == dict(swin, mlp_ratio=4.0, layer_norm_eps=1e-6)
    assert {name: tuple(tensor.shape) for name, tensor in ours.state.items()} == needed
    back = IDisc().to_theirs(ours.state)
    assert {name: tuple(tensor.shape) for name, tensor in back.state.items()} == shapes
    assert sorted(*ours.left_out.values()) == sorted(*back.added.values())
    assert list(*ours.added.values()) == list(*back.left_out.values()) == UNUSED
    found = {}
    for name, shape in shapes.items():
        if name.endswith('relative_position_index'):
            assert LAYOUT.place(name) is None
            continue
        places = ours.places[name]
        assert len(places) == (3 if '.qkv.' in name else 1)
        assert {LAYOUT.theirs(place) for place in places} == {name}
        for place in places:
            assert place not in found
            found[place] = (shape[0] // 3, *shape[1:]) if len(places) == 3 else shape
    assert {name: needed.pop(name) for name in UNUSED} == dict.fromkeys(UNUSED, (1536,))
    assert found == needed
    numbers = sum(math.prod(s) for n, s in shapes.items() if not n.endswith(('index', 'mean', 'var', 'tracked')))
    # Swin-L is published with 195.0 M without its classifier; 3 norms of the maps are added, of 192, 384 and 768.
    swin_numbers = sum(math.prod(s) for n, s in shapes.items() if n.startswith('pixel_encoder') and 'index' not in n)
    assert swin_numbers == 194_995_476 + 2 * (192 + 384 + 768)
    assert numbers == swin_numbers + 12_193_676


# Numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('size', 'window'), [((32, 32), 2), ((41, 54), 3)])
def test_the_converted_model_computes_what_idisc_computes(tmp_path, size, window):
    """The second size and window: padding of patches, windows and mergings, and a shift."""
    settings = {**TINY, 'window': window}
    state = published(window=window)
    torch.save({f'module.{name}': value for name, value in state.items()}, tmp_path / 'idisc.pt')
    converted = convert(IDisc(), tmp_path / 'idisc.pt')
    model = segmentor(converted.settings)
    model.load_state_dict(converted.state)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        pyramid = swin_pyramid(Named(state), images, **settings)
        expected = reference_normals(state, images, settings)
        for found, level in zip(model.backbone(images), pyramid, strict=True):
            assert level.std() > 0.3  # worth comparing
            torch.testing.assert_close(found, level, atol=1e-4, rtol=1e-4)
        found = model.decode_head(model.backbone(images))
        assert found.shape == expected.shape and expected.std() > 0.1
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(model.decode_head(tuple(pyramid)), expected, atol=1e-4, rtol=1e-4)
        # Another model of these shapes is something else.
        other = reference_normals(published(seed=1, window=window), images, settings)
        assert (other - expected).abs().max() > 0.3


@pytest.mark.parametrize('written', ['out.safetensors', 'out.pth'])
def test_the_tool_writes_a_checkpoint_that_loads(tmp_path, capsys, written):
    state = published()
    torch.save(state, tmp_path / 'idisc.pt')
    tool().main([str(tmp_path / 'idisc.pt'), '--out', str(tmp_path / 'made' / written)])
    printed = capsys.readouterr().out
    assert 'left out, not needed here: 6 tensors ' in printed and 'added: 2 that nothing reads' in printed
    assert 'embed_dim=8, depths=[2, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=2, mlp_ratio=4.0' in printed
    assert 'in_channels=[8, 16, 32, 64], channels=16, layers=2, heads=4, points=4, resolutions=3, idrs=3' in printed
    assert 'idr_channels=8, decoder_layers=2, expansion=4' in printed
    assert [path.name for path in (tmp_path / 'made').iterdir()] == [written]
    converted = convert(IDisc(), tmp_path / 'idisc.pt')
    model = segmentor(converted.settings)
    load_weights(model, tmp_path / 'made' / written)
    ours = model.state_dict()
    for name, value in state.items():
        places = converted.places.get(name)
        if places:
            assert torch.equal(
                torch.cat([ours.pop(place) for place in places]) if places[1:] else ours.pop(places[0]), value
            )
    assert list(ours) == UNUSED
    assert torch.equal(ours[UNUSED[0]], torch.ones(64)) and torch.equal(ours[UNUSED[1]], torch.zeros(64))


def test_half_precision_becomes_single_precision(tmp_path):
    state = {name: value.half() if value.is_floating_point() else value for name, value in published().items()}
    save_file(state, tmp_path / 'idisc.safetensors')
    converted = convert(IDisc(), tmp_path / 'idisc.safetensors').state
    assert {value.dtype for value in converted.values()} == {torch.float32, torch.int64}
    assert torch.equal(
        converted['decode_head.partitioning.priors.1'], load_file(tmp_path / 'idisc.safetensors')['afp.mu_2'].float()
    )


def indices(window):
    """Row of the bias table for every pair of a window's pixels, counted out."""
    pixels = [(y, x) for y in range(window) for x in range(window)]
    side = 2 * window - 1
    return torch.tensor([[(y - b + window - 1) * side + x - a + window - 1 for b, a in pixels] for y, x in pixels])


@pytest.mark.parametrize('window', [2, 3])
def test_the_way_back_writes_their_file(tmp_path, capsys, window):
    state = {
        name: indices(window) if name.endswith('position_index') else tensor
        for name, tensor in published(window=window).items()
    }
    torch.save(state, tmp_path / 'idisc.pt')
    tool().main([str(tmp_path / 'idisc.pt'), '--out', str(tmp_path / 'ours.pth')])
    capsys.readouterr()
    tool().main([str(tmp_path / 'ours.pth'), '--out', str(tmp_path / 'back.pth'), '--to', 'theirs'])
    printed = capsys.readouterr().out
    assert 'left out, not needed here: 2 tensors that nothing reads (backbone.model.swin.layernorm.weight, ' in printed
    assert 'added: 6 that follow from the size of the window (pixel_encoder.layers.0.blocks.0.attn.rel' in printed
    back = torch.load(tmp_path / 'back.pth', weights_only=True)
    assert back.keys() == state.keys()
    assert [name for name in state if not torch.equal(back[name], state[name])] == []


# Faults -------------------------------------------------------------------------------------------------------------


def with_fault(fault):
    state = published(out=1) if fault == 'depth' else published()
    if fault == 'unknown':
        state['afp.cross_attn_1_d2.to_q.bias'] = torch.ones(8)
    elif fault == 'unknown in the Swin':
        state['pixel_encoder.layers.1.blocks.0.extra.bias'] = torch.ones(8)
    elif fault == 'missing':
        del state['pixel_encoder.layers.2.blocks.1.attn.qkv.bias'], state['isd.head_2.mlp_1.3.bias']
    elif fault == 'missing size':
        del state['afp.mu_1']
    elif fault == 'missing Swin':
        state = {name: value for name, value in state.items() if not name.startswith('pixel_encoder.layers')}
    elif fault == 'missing maps':
        gone = tuple(f'pixel_decoder.input_adapter_{i}' for i in (3, 4))
        state = {name: value for name, value in state.items() if not name.startswith(gone)}
    elif fault == 'missing norm':
        del state['pixel_encoder.norm2.weight']
    elif fault == 'shape':
        state['pixel_encoder.layers.0.blocks.1.attn.qkv.weight'] = torch.ones(25, 8)
        state['pixel_decoder.fpn_conv_3.weight'] = torch.ones(16, 16, 1, 1)
    return state


@pytest.mark.parametrize(
    ('fault', 'expected'),
    [
        ('depth', 'its head puts out 1 channels, expected 4 of a normals model'),
        ('unknown', r'without a place 1: afp\.cross_attn_1_d2\.to_q\.bias'),
        ('unknown in the Swin', r'without a place 1: pixel_encoder\.layers\.1\.blocks\.0\.extra\.bias'),
        ('missing', r'missing 2: pixel_encoder\.layers\.2\.blocks\.1\.attn\.qkv\.bias, isd\.head_2\.mlp_1\.3\.bias'),
        ('missing size', r'a tensor that iDisc has is missing: afp\.mu_1'),
        ('missing Swin', r'is missing: pixel_encoder\.layers\.0\.blocks\.0\.attn\.relative_position_bias_table'),
        ('missing maps', r'idisc\.pt: resolutions=3: expected 1 to 2'),
        ('missing norm', r'missing 1: pixel_encoder\.norm2\.weight'),
        (
            'shape',
            r'shape 2: .*qkv\.weight \[25, 8\], expected \[24, 8\], .*fpn_conv_3\.weight \[16, 16, 1, 1\], '
            r'expected \[16, 16, 3, 3\]',
        ),
    ],
)
def test_a_tensor_too_many_or_too_few_is_named(tmp_path, fault, expected):
    torch.save(with_fault(fault), tmp_path / 'idisc.pt')
    with pytest.raises(ValueError, match=expected):
        convert(IDisc(), tmp_path / 'idisc.pt')


def test_other_files_are_recognised_and_mistakes_refused(tmp_path, capsys):
    for name, kind in (
        ('pixel_encoder.layer1.0.bias', 'iDisc on a ResNet'),
        ('pixel_encoder.conv_stem.weight', 'iDisc on an EfficientNet'),
        ('decode_head.partitioning.priors.0', 'a checkpoint of mmdiff2in1'),
        ('encoder.bias', r'another layout \(encoder\)'),
    ):
        save_file({name: torch.zeros(1)}, tmp_path / 'other.safetensors')
        with pytest.raises(ValueError, match=f'is no checkpoint of iDisc on a Swin transformer; found {kind}'):
            convert(IDisc(), tmp_path / 'other.safetensors')
    main = tool().main
    with pytest.raises(SystemExit, match='no such file of weights'):
        main([str(tmp_path / 'nothing.pt'), '--out', str(tmp_path / 'out.pth')])
    for out, expected in (
        ('out.bin', 'expected a .safetensors or .pth file'),
        ('./idisc.pth', 'is the checkpoint itself'),
    ):
        with pytest.raises(SystemExit):
            main(['idisc.pth', '--out', out])
        assert expected in capsys.readouterr().err
