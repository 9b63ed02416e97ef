"""iDisc's head, each part against a slow reference in float64.

B samples; L levels, coarse to fine; M heads of D channels; P points; N representations.
"""

import math

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.models.decode_heads.idisc_head
import mmdiff2in1.models.losses.angular_vmf
import mmdiff2in1.models.losses.scale_invariant_log
import mmdiff2in1.models.segmentors.dense_estimator  # noqa: F401
from mmdiff2in1.models.decode_heads.adaptive_feature_partitioning import AdaptiveFeaturePartitioning
from mmdiff2in1.models.decode_heads.cross_attention import CrossAttention
from mmdiff2in1.models.decode_heads.deformable_attention import MultiScaleDeformableAttention, deformable_attention
from mmdiff2in1.models.decode_heads.deformable_pixel_decoder import DeformablePixelDecoder, pixel_centres
from mmdiff2in1.models.decode_heads.internal_structured_discretization import InternalStructuredDiscretization
from mmdiff2in1.models.decode_heads.sine_position import sine_position
from mmdiff2in1.models.self_improving.kinds import Kind
from mmdiff2in1.models.self_improving.losses_by_kind import losses_by_kind

NORMAL, DEPTH = dict(type='SurfaceNormal', kappa=True), dict(type='Depth')
WIDTHS = [4, 8, 16, 32]
SMALL = dict(channels=16, layers=2, heads=2, points=2, idrs=5, idr_channels=8)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def randomised(module):
    """Everything moved away from where it begins, in float64."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in module.double().parameters():
            tensor.copy_(tensor + 0.3 * torch.randn(tensor.shape, generator=generator))
    return module.eval()


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear(layer, vector):
    rows = zip(layer.weight, layer.bias, strict=True)
    return [sum(w * x for w, x in zip(row, vector, strict=True)) + b for row, b in rows]


def normalised(norm, vector):
    mean = sum(vector) / len(vector)
    scale = torch.sqrt(sum((x - mean) ** 2 for x in vector) / len(vector) + norm.eps)
    return [w * (x - mean) / scale + b for w, b, x in zip(norm.weight, norm.bias, vector, strict=True)]


def stacked(vectors):
    return torch.stack([torch.stack(list(vector)) for vector in vectors])


def added(first, second):
    return [a + b for a, b in zip(first, second, strict=True)]


def mlp(layers, vector):
    hidden = linear(layers[1], normalised(layers[0], vector))
    return linear(layers[3], [0.5 * x * (1 + torch.erf(x / math.sqrt(2))) for x in hidden])


def position_of(row, column, size, channels):
    """Sine positions by their definition, one pixel."""
    found = []
    for place, length in ((row, size[0]), (column, size[1])):
        angle = 2 * math.pi * (place + 1) / (length + 1e-6)
        for k in range(channels // 4):
            phase = angle / 10000 ** (2 * k / (channels / 2))
            found += [math.sin(phase), math.cos(phase)]
    return torch.tensor(found, dtype=torch.float64)


# Positions ----------------------------------------------------------------------------------------------------------


def test_sine_positions_are_those_of_their_definition():
    found = sine_position((3, 5), 8)
    assert found.shape == (8, 3, 5) and found.dtype == torch.float32
    for row in range(3):
        for column in range(5):
            expected = position_of(row, column, (3, 5), 8)
            torch.testing.assert_close(found[:, row, column].double(), expected, atol=1e-6, rtol=0)
    # The last row and column stand at 2π on every scale.
    other = sine_position((60, 7), 8)
    torch.testing.assert_close(found[:, -1, -1], other[:, -1, -1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match='positions in 6 channels: expected a multiple of 4'):
        sine_position((3, 5), 6)


def test_pixel_centres_are_x_and_y_row_by_row():
    expected = [(1 / 4, 1 / 6), (3 / 4, 1 / 6), (1 / 4, 3 / 6), (3 / 4, 3 / 6), (1 / 4, 5 / 6), (3 / 4, 5 / 6)]
    torch.testing.assert_close(pixel_centres((3, 2)), torch.tensor(expected))


# Deformable attention -----------------------------------------------------------------------------------------------


def bilinear(map_, x, y):
    """Map (h, w, D) at pixel coordinates (centres are integers); zero outside."""
    h, w, _ = map_.shape
    total = torch.zeros(map_.shape[2], dtype=torch.float64)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < h and 0 <= column < w:
                total = total + (1 - abs(y - row)) * (1 - abs(x - column)) * map_[row, column]
    return total


def slow_deformable_attention(values, sizes, locations, weights):
    B, Q, M, L, P, _ = locations.shape
    found = torch.zeros(B, Q, M, values.shape[-1], dtype=torch.float64)
    for b in range(B):
        for m in range(M):
            start = 0
            for level, (h, w) in enumerate(sizes):
                map_ = values[b, start : start + h * w, m].reshape(h, w, -1)
                start += h * w
                for q in range(Q):
                    for p in range(P):
                        x, y = locations[b, q, m, level, p].tolist()
                        found[b, q, m] += weights[b, q, m, level, p] * bilinear(map_, x * w - 0.5, y * h - 0.5)
    return found.flatten(2)


SIZES = [(2, 3), (4, 3), (1, 5)]
S = sum(h * w for h, w in SIZES)


def test_deformable_attention_equals_a_loop_over_samples_inside_and_outside():
    B, Q, M, D, P = 2, 4, 2, 3, 2
    values, weights = randn(B, S, M, D), randn(B, Q, M, len(SIZES), P, seed=1)
    locations = 0.5 + 0.5 * randn(B, Q, M, len(SIZES), P, 2, seed=2)
    locations[0, 0, 0, 0] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])  # corners: a quarter of the pixel
    locations[0, 0, 1, 1] = torch.tensor([[7.0, 0.5], [0.5, -3.0]])  # far outside: nothing
    outside = (locations < 0) | (locations > 1)
    assert 0.2 < outside.any(-1).double().mean() < 0.9
    found = deformable_attention(values, SIZES, locations, weights)
    torch.testing.assert_close(found, slow_deformable_attention(values, SIZES, locations, weights))


def test_gradients_of_deformable_attention():
    arguments = [randn(1, S, 1, 2), 0.5 + 0.3 * randn(1, 2, 1, 3, 2, 2, seed=1), randn(1, 2, 1, 3, 2, seed=2)]
    arguments = [tensor.requires_grad_() for tensor in arguments]
    assert torch.autograd.gradcheck(lambda v, x, w: deformable_attention(v, SIZES, x, w), arguments)


def test_the_layer_chooses_places_around_the_query_and_recomputation_changes_no_gradient():
    M, L, P, C = 2, len(SIZES), 2, 8
    layer = randomised(MultiScaleDeformableAttention(C, L, M, P))
    query, values = randn(2, 3, C), randn(2, S, C, seed=1).requires_grad_()
    reference = torch.tensor([[0.1, 0.9], [0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    found = layer(query, reference, values, SIZES)

    projected = F.linear(values, layer.value.weight, layer.value.bias).reshape(2, S, M, C // M)
    locations, weights = torch.zeros(2, 3, M, L, P, 2).double(), torch.zeros(2, 3, M, L, P).double()
    for b in range(2):
        for q in range(3):
            offsets, scores = linear(layer.offsets, query[b, q]), linear(layer.scores, query[b, q])
            for m in range(M):
                total = sum(s.exp() for s in scores[m * L * P : (m + 1) * L * P])
                for level, (h, w) in enumerate(SIZES):
                    for p in range(P):
                        place = (m * L + level) * P + p
                        moved = torch.stack([offsets[2 * place] / w, offsets[2 * place + 1] / h])
                        locations[b, q, m, level, p] = reference[q] + moved
                        weights[b, q, m, level, p] = scores[place].exp() / total
    read = slow_deformable_attention(projected, SIZES, locations.detach(), weights.detach())
    torch.testing.assert_close(found, F.linear(read, layer.output.weight, layer.output.bias))

    direct = layer.output(deformable_attention(projected, SIZES, locations.detach(), weights.detach()))
    first, second = (torch.autograd.grad(y.square().sum(), values)[0] for y in (found, direct))
    torch.testing.assert_close(first, second)


def test_at_first_the_heads_look_in_all_directions():
    layer = MultiScaleDeformableAttention(8, 1, heads=4, points=2)
    expected = torch.tensor([[[1, 0], [2, 0]], [[0, 1], [0, 2]], [[-1, 0], [-2, 0]], [[0, -1], [0, -2]]])
    torch.testing.assert_close(layer.offsets.bias.view(4, 2, 2), expected.float(), atol=1e-6, rtol=0)
    assert layer.offsets.weight.abs().max() == 0 and layer.scores.weight.abs().max() == 0
    with pytest.raises(ValueError, match='9 channels cannot be divided among 2 heads'):
        MultiScaleDeformableAttention(9, 1, heads=2)


# Discretisation -----------------------------------------------------------------------------------------------------


def slow_attention(layer, queries, context):
    """Queries and context as lists of vectors."""
    width = len(queries[0])
    q = [linear(layer.query, normalised(layer.norm, x)) for x in queries]
    both = [linear(layer.key_value, normalised(layer.context_norm, x)) for x in context]
    found = [[] for _ in queries]
    for head in range(layer.heads):
        own = slice(head * width // layer.heads, (head + 1) * width // layer.heads)
        scale = math.sqrt(width // layer.heads)
        scores = [[sum(a * b for a, b in zip(x[own], y[:width][own], strict=True)) / scale for y in both] for x in q]
        shares = [[s.exp() for s in row] for row in scores]
        if layer.compete:
            totals = [sum(row[j] for row in shares) for j in range(len(both))]
            shares = [[s / totals[j] + 1e-6 for j, s in enumerate(row)] for row in shares]
        for i, row in enumerate(shares):
            for channel in range(width)[own]:
                found[i].append(sum(s * y[width + channel] for s, y in zip(row, both, strict=True)) / sum(row))
    return [linear(layer.output, x) for x in found]


@pytest.mark.parametrize('compete', [True, False])
@pytest.mark.parametrize('heads', [1, 2])
def test_cross_attention_equals_loops(compete, heads):
    layer = randomised(CrossAttention(4, 6, heads, compete))
    queries, context = randn(2, 3, 4), 2 * randn(2, 5, 6, seed=1)
    found = layer(queries, context)
    for b in range(2):
        expected = slow_attention(layer, list(queries[b]), list(context[b]))
        torch.testing.assert_close(found[b], stacked(expected))


def test_representations_come_about_in_rounds_of_the_same_layers():
    part = randomised(AdaptiveFeaturePartitioning(2, channels=8, idrs=3, idr_channels=4, iterations=2, expansion=2))
    maps = [randn(2, 8, 1, 2), randn(2, 8, 2, 2, seed=1)]
    found = part(maps)
    for level, x in enumerate(maps):
        h, w = x.shape[-2:]
        for b in range(2):
            pixels = [x[b, :, r, c] + position_of(r, c, (h, w), 8) for r in range(h) for c in range(w)]
            idrs = [list(prior) for prior in part.priors[level][0]]
            for _ in range(2):
                update = slow_attention(part.attention[level], idrs, pixels)
                idrs = [added(a, u) for a, u in zip(idrs, update, strict=True)]
                idrs = [added(a, mlp(part.mlp[level], a)) for a in idrs]
            torch.testing.assert_close(found[level][b], stacked(idrs), atol=1e-5, rtol=1e-5)


def test_pixels_read_the_representations():
    part = randomised(InternalStructuredDiscretization(8, 4, out_channels=3, layers=2, expansion=2))
    x, idrs = randn(2, 8, 2, 3), randn(2, 3, 4, seed=1)
    found = part(x, idrs)
    assert found.shape == (2, 3, 2, 3)
    for b in range(2):
        pixels = [list(x[b, :, r, c] + position_of(r, c, (2, 3), 8)) for r in range(2) for c in range(3)]
        for attention, layers in zip(part.attention, part.mlp, strict=True):
            update = slow_attention(attention, pixels, list(idrs[b]))
            pixels = [added(p, u) for p, u in zip(pixels, update, strict=True)]
            pixels = [added(p, mlp(layers, p)) for p in pixels]
        norm, first, second_norm, last = part.output
        out = [linear(last, normalised(second_norm, linear(first, normalised(norm, p)))) for p in pixels]
        expected = stacked(out).T.reshape(3, 2, 3)
        torch.testing.assert_close(found[b], expected, atol=1e-5, rtol=1e-5)


# Pixel decoder and head ---------------------------------------------------------------------------------------------


def test_the_pixel_decoder_is_a_transformer_over_all_scales_and_a_top_down_path():
    decoder = randomised(DeformablePixelDecoder([6, 4], 8, layers=2, heads=2, points=2, expansion=2))
    decoder.float()  # the transformer runs in fp32
    features = [randn(2, 6, 2, 3).float(), randn(2, 4, 4, 5, seed=1).float()]
    maps, encoded = decoder(features)

    def convolved(module, x):
        x = F.conv2d(x, module.conv.weight, padding=module.conv.padding)
        return F.gelu(F.batch_norm(x, module.bn.running_mean, module.bn.running_var, module.bn.weight, module.bn.bias))

    sizes, tokens, positions, places = [(2, 3), (4, 5)], [], [], []
    for level, (x, (h, w)) in enumerate(zip(features, sizes, strict=True)):
        convolution, norm = decoder.project[level]
        x = F.group_norm(F.conv2d(x, convolution.weight, convolution.bias), 1, norm.weight, norm.bias)
        for row in range(h):
            for column in range(w):
                tokens.append(x[:, :, row, column])
                positions.append(position_of(row, column, (h, w), 8).float() + decoder.level_embedding[level])
                places.append(((column + 0.5) / w, (row + 0.5) / h))
    tokens, positions, places = torch.stack(tokens, 1), torch.stack(positions), torch.tensor(places)
    for layer in decoder.layers:
        queries = F.layer_norm(tokens, (8,), layer.norm.weight, layer.norm.bias) + positions
        tokens = tokens + layer.attention(queries, places, tokens, sizes)
        tokens = tokens + layer.mlp(tokens)
    coarse = convolved(decoder.encoded[0], tokens[:, :6].transpose(1, 2).reshape(2, 8, 2, 3))
    fine = convolved(decoder.encoded[1], tokens[:, 6:].transpose(1, 2).reshape(2, 8, 4, 5))
    torch.testing.assert_close(encoded, [coarse, fine], atol=1e-4, rtol=1e-4)
    first = convolved(decoder.smooth[0], convolved(decoder.lateral[0], features[0]) + coarse)
    rows, columns = [0, 0, 1, 1], [0, 0, 1, 1, 2]  # nearest, without aligned corners
    wide = first[:, :, rows][..., columns]
    second = convolved(decoder.smooth[1], convolved(decoder.lateral[1], features[1]) + fine + wide)
    torch.testing.assert_close(maps, [first, second], atol=1e-4, rtol=1e-4)


def head(widths=WIDTHS, task=NORMAL, **settings):
    return MODELS.build(dict(type='IDiscHead', in_channels=widths, task=task, **{**SMALL, **settings}))


def pyramid(widths=WIDTHS, finest=(9, 11), B=2):
    sizes = [[math.ceil(side / 2**i) for side in finest] for i in range(len(widths))]
    return [randn(B, width, *size, seed=i).float() for i, (width, size) in enumerate(zip(widths, sizes, strict=True))]


def published_count(widths, C=256, F_=1024, N=32, D=128, K=4, layers=4, M=4, P=4, resolutions=3):
    """Numbers counted by hand: linear layers with bias (in + 1) out, normalisations 2 per channel."""
    L = len(widths)
    projections = sum((w + 1) * C + 2 * C for w in widths)
    attention = (C + 1) * (3 * M * L * P) + 2 * (C + 1) * C
    layer = attention + 2 * 2 * C + (C + 1) * F_ + (F_ + 1) * C
    convolutions = sum(w * C + C * C + 9 * C * C + 3 * 2 * C for w in widths)
    decoder = projections + L * C + layers * layer + convolutions
    partition = N * D + 2 * D + 2 * C + (D + 1) * D + (C + 1) * 2 * D + (D + 1) * D
    partition += 2 * D + (D + 1) * 4 * D + (4 * D + 1) * D
    reading = 2 * C + 2 * D + (C + 1) * C + (D + 1) * 2 * C + (C + 1) * C
    reading += 2 * C + (C + 1) * 4 * C + (4 * C + 1) * C
    output = 2 * C + (C + 1) * C + 2 * C + (C + 1) * K
    return decoder + resolutions * (partition + 2 * reading + output)


@pytest.mark.parametrize(
    ('widths', 'expected'), [([192, 384, 768, 1536], 12_193_676), ([320, 640, 1280, 1280], 12_521_356)]
)
def test_parameters_at_the_published_widths(widths, expected):
    with torch.device('meta'):
        built = MODELS.build(dict(type='IDiscHead', in_channels=widths, task=NORMAL))
    assert sum(p.numel() for p in built.parameters()) == expected == published_count(widths)


def cubic(maps, new, dim):
    """Cubic convolution along one dimension, corners aligned, the border repeated (Keys 1981, a = -0.75)."""
    maps, old, a = maps.movedim(dim, 0), maps.shape[dim], -0.75
    rows = []
    for i in range(new):
        place = i * (old - 1) / max(1, new - 1)
        row = 0
        for near in range(math.floor(place) - 1, math.floor(place) + 3):
            d = abs(place - near)
            inner, outer = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
            row = row + (inner if d <= 1 else outer) * maps[min(max(near, 0), old - 1)]
        rows.append(row)
    return torch.stack(rows).movedim(0, dim)


def test_normals_are_learned_at_the_size_of_the_image_by_cubic_interpolation():
    """As published, in training too; the loss gets what overshoots. One channel is bilinear."""
    built = head().double()
    batch = samples(2, (36, 44))
    outputs = torch.randn(2, 4, 9, 11, dtype=torch.float64)
    outputs[:, 3] = outputs[:, 3].abs() + 0.01
    wide = cubic(cubic(outputs, 36, 2), 44, 3)
    assert wide[:, 3].min() < 0
    target = torch.stack([sample.gt_normal_map.data for sample in batch]).double()
    expected = built.loss_decode[0](wide, target)
    torch.testing.assert_close(built.loss_by_feat(outputs, batch)['loss_angular_vmf'], expected)
    assert built.predict_by_feat(outputs, [dict(img_shape=(36, 44))] * 2)[:, 3].min() == 0
    depth = head(task=DEPTH).predict_by_feat(outputs[:, :1].float(), [dict(img_shape=(36, 44))] * 2)
    bilinear_ = F.interpolate(outputs[:, :1].float(), (36, 44), mode='bilinear', align_corners=True)
    torch.testing.assert_close(depth, bilinear_)


def test_the_output_is_the_mean_of_the_activated_resolutions():
    built = head(resolutions=2).eval()
    features = pyramid()
    found = built(features)
    maps, encoded = built.pixel_decoder(features[::-1])
    idrs = built.partitioning(encoded[2:])
    total = 0
    for decode, x, own in zip(built.decoders, maps[2:], idrs, strict=True):
        raw = F.interpolate(decode(x, own), (9, 11), mode='bilinear', align_corners=True)
        kappa = torch.where(raw[:, 3:] > 0, raw[:, 3:] + 1.01, raw[:, 3:].exp() + 0.01)
        total = total + torch.cat([raw[:, :3] / raw[:, :3].norm(dim=1, keepdim=True), kappa], dim=1) / 2
    torch.testing.assert_close(found, total)
    predicted = built.predict_by_feat(found, [dict(img_shape=(33, 41), pad_shape=(36, 44))] * 2)
    wide = cubic(cubic(total, 36, 2), 44, 3)
    torch.testing.assert_close(predicted[:, 3:], wide[:, 3:].clamp(min=0))
    torch.testing.assert_close(predicted[:, :3], F.normalize(wide[:, :3], dim=1))


@pytest.mark.parametrize(
    ('widths', 'finest', 'resolutions'),
    [(WIDTHS, (1, 1), 3), ([8, 4, 4], (5, 2), 3), ([4, 8], (8, 8), 1), ([4], (3, 7), 1)],
)
def test_any_pyramid_of_any_size(widths, finest, resolutions):
    built = head(widths, resolutions=resolutions).eval()
    with torch.no_grad():
        output = built.predict(pyramid(widths, finest), [dict(img_shape=(13, 21))] * 2, None)
    assert output.shape == (2, 4, 13, 21)
    torch.testing.assert_close(output[:, :3].norm(dim=1), torch.ones(2, 13, 21))
    assert output[:, 3].min() > 0


def test_depth_in_metres_and_maps_chosen_by_index():
    built = head([32, 8], task=DEPTH, in_index=[3, 1], resolutions=2).eval()
    features = pyramid()
    metres = built(features)
    assert metres.shape == (2, 1, 2, 2) and 0 < metres.min() and metres.max() < 10
    torch.testing.assert_close(metres, head_of(built, [0, 1])([features[3], features[1]]))


def head_of(built, in_index):
    built.in_index = in_index
    return built


def test_under_autocast_the_transformer_stays_in_single_precision():
    built, features = head().eval(), pyramid()
    with torch.no_grad():
        expected, tokens = built(features), built.pixel_decoder._attend(features[::-1])
        with torch.autocast('cpu', torch.bfloat16):
            found, half = built([x.bfloat16() for x in features]), built.pixel_decoder._attend(features[::-1])
    torch.testing.assert_close(half, tokens, atol=0, rtol=0)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.1


@pytest.mark.parametrize('resolutions', [0, 5])
def test_a_wrong_number_of_resolutions_is_refused(resolutions):
    with pytest.raises(ValueError, match=f'resolutions={resolutions}: expected 1 to 4'):
        head(resolutions=resolutions)


def samples(B, size, field='gt_normal_map'):
    found = []
    for i in range(B):
        data = F.normalize(randn(3, *size, seed=10 + i).float(), dim=0)
        data[:, :2] = 0  # not known
        found.append(SegDataSample(metainfo=dict(img_shape=size, ori_shape=size)))
        found[-1].set_data({field: PixelData(data=data)})
    return found


def test_the_loss_is_that_of_the_output_at_the_size_of_the_target():
    built = head(loss_decode=[dict(type='AngularVMFLoss'), dict(type='AngularVMFLoss', loss_weight=2.0)]).eval()
    features, batch = pyramid(), samples(2, (36, 44))
    losses = built.loss(features, batch, None)
    output = built.predict(features, [dict(img_shape=(36, 44))] * 2, None)
    target = torch.stack([sample.gt_normal_map.data for sample in batch])
    cosine = (output[:, :3] * target).sum(1)
    keep = (target != 0).any(1) & (cosine.abs() < 0.999)
    theta, kappa = torch.acos(cosine[keep].double()), output[:, 3][keep].double()
    expected = (-torch.log(kappa**2 + 1) + kappa * theta + torch.log1p(torch.exp(-kappa * math.pi))).mean()
    (name,) = losses
    assert name == 'loss_angular_vmf'
    assert losses[name].item() == pytest.approx(3 * expected.item(), rel=1e-4)


def test_every_parameter_learns_but_those_that_the_softmax_over_queries_cancels():
    """Adding a constant to all queries changes no share of a place: the biases before the query have no effect."""
    built = head().eval()  # batch statistics would cancel one more: the last bias before them
    torch.manual_seed(5)
    for module in built.modules():  # offsets and scores begin at zero, which hides what stands before them
        if isinstance(module, MultiScaleDeformableAttention):
            torch.nn.init.normal_(module.offsets.weight, std=0.1)
            torch.nn.init.normal_(module.scores.weight, std=0.1)
    built.loss(pyramid(), samples(2, (36, 44)), None)['loss_angular_vmf'].backward()
    grads = {name: p.grad.abs().max().item() for name, p in built.named_parameters()}
    cancelled = {f'partitioning.attention.{i}.{name}.bias' for i in range(3) for name in ('norm', 'query')}
    assert {name for name, size in grads.items() if size < 1e-7} <= cancelled
    assert max(grads[name] for name in cancelled) < 1e-6


def test_real_and_synthetic_samples_go_through_the_head_once():
    backbone = dict(
        type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, out_indices=(0, 1, 2, 3), norm_cfg=dict(type='BN')
    )
    config = dict(type='IDiscHead', in_channels=WIDTHS, task=NORMAL, **SMALL)
    parts = dict(backbone=backbone, decode_head=config, test_cfg=dict(mode='whole'))
    model = MODELS.build(ConfigDict(type='DenseEstimator', task=NORMAL, **parts))
    batch, images = samples(4, (40, 36)), randn(4, 3, 40, 36).float()
    calls = []
    kinds = [
        Kind('real', torch.tensor([0, 2]), [batch[0], batch[2]], 1.0),
        Kind('synthetic', torch.tensor([1, 3]), [batch[1], batch[3]], 0.5),
    ]
    forward = model.decode_head.forward
    model.decode_head.forward = lambda *inputs: calls.append(1) or forward(*inputs)
    losses = losses_by_kind(model, images, kinds, model.tasks)
    assert len(calls) == 1
    # The same by hand: one pass over the batch, a loss for each kind.
    output = forward(model.extract_feat(images))
    for kind in kinds:
        alone = model.decode_head.loss_by_feat(output[kind.index], kind.samples)['loss_angular_vmf']
        torch.testing.assert_close(losses[f'{kind.name}/decode.loss_angular_vmf'], kind.weight * alone)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    predicted = model.eval().predict(images, batch)
    assert predicted[0].pred_normal_map.data.shape == (4, 40, 36)
