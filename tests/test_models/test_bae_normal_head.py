"""BaeNormalHead: which pixels it samples, its loss and its prediction against slow references, published shapes.

B samples; C = 4: unit vector and κ; N points; strides 2 to 32.
"""

import math

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.tasks  # noqa: F401
from mmdiff2in1.models.decode_heads import bae_normal_head
from mmdiff2in1.models.decode_heads.bae_normal_head import BaeNormalHead
from mmdiff2in1.models.decode_heads.uncertainty_sampling import grid_coordinates, nearest_aligned, sample_pixels
from mmdiff2in1.models.losses.angular_vmf import AngularVMFLoss
from mmdiff2in1.models.self_improving.kinds import Kind, kinds_of
from mmdiff2in1.models.self_improving.losses_by_kind import losses_by_kind
from mmdiff2in1.tasks import TaskSet

IN, WIDTHS = (4, 5, 6, 7, 16), (32, 24, 16, 8)
LOSS = dict(type='AngularVMFLoss')


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def tiny_head(**settings):
    torch.manual_seed(0)
    return BaeNormalHead(IN, widths=WIDTHS, point_channels=12, **settings)


def pyramid(height, width, batch=2, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, c, math.ceil(height / s), math.ceil(width / s), generator=g).to(dtype)
        for c, s in zip(IN, (2, 4, 8, 16, 32), strict=True)
    ]


def samples(height, width, batch=2, known=0.7, seed=1):
    g = torch.Generator().manual_seed(seed)
    maps = F.normalize(torch.randn(batch, 3, height, width, generator=g), dim=1)
    maps = maps * (torch.rand(batch, 1, height, width, generator=g) < known)
    return [SegDataSample(gt_normal_map=PixelData(data=normals)) for normals in maps]


# Sampling ---------------------------------------------------------------------------------------------------------


def test_the_least_certain_valid_pixels_are_sampled_in_order():
    kappa = torch.tensor([[[5.0, 1, 9, 2], [8, 0.5, 3, 7], [6, 4, 10, 11]]]).repeat(2, 1, 1)
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[1, 0, 1] = valid[1, 1, 1] = False  # the two least certain ones
    for _ in range(5):  # whatever else is drawn
        index = sample_pixels(kappa, valid, sampling_ratio=0.5, importance_ratio=0.7)
        assert index.shape == (2, 6)
        assert index[0, :4].tolist() == [5, 1, 3, 6] and index[1, :4].tolist() == [3, 6, 9, 0]
        assert all(len(set(row)) == 6 for row in index.tolist())


def test_invalid_pixels_are_the_last_resort():
    kappa = torch.rand(1, 4, 5)
    valid = torch.zeros(1, 4, 5, dtype=torch.bool)
    valid[0, 0] = True
    index = sample_pixels(kappa, valid, 0.5, 1.0)[0]
    assert index.shape == (10,) and sorted(index[:5].tolist()) == [0, 1, 2, 3, 4]
    assert len(set(index.tolist())) == 10
    # Nothing valid: still N pixels, none of them twice.
    index = sample_pixels(kappa, torch.zeros_like(valid), 0.5, 0.7)[0]
    assert len(set(index.tolist())) == 10


def test_the_others_are_uniform_over_what_remains():
    torch.manual_seed(3)
    draws, kappa = 4000, torch.arange(20.0).view(1, 4, 5)
    valid = torch.ones(1, 4, 5, dtype=torch.bool)
    valid[0, 3] = False
    index = sample_pixels(kappa.expand(draws, 4, 5), valid.expand(draws, 4, 5), 0.5, 0.4)
    assert (index[:, :4] == torch.arange(4)).all()
    counts = index[:, 4:].flatten().bincount(minlength=20)
    assert (counts[:4] == 0).all()
    expected = draws * 6 / 16
    assert ((counts[4:] - expected).abs() < 4.5 * math.sqrt(expected * (1 - 6 / 16))).all()
    # All of them: every pixel once. None important: nothing but the uniform ones.
    assert sample_pixels(kappa, valid, 1.0, 0.7).sort().values[0].tolist() == list(range(20))
    firsts = sample_pixels(kappa.expand(draws, 4, 5), valid.expand(draws, 4, 5), 0.05, 0.0)
    assert firsts.shape == (draws, 1) and firsts.unique().numel() == 20


def test_the_draw_follows_the_global_generator():
    kappa, valid = torch.rand(2, 8, 8), torch.ones(2, 8, 8, dtype=torch.bool)
    torch.manual_seed(7)
    first, second = sample_pixels(kappa, valid, 0.4, 0.7), sample_pixels(kappa, valid, 0.4, 0.7)
    torch.manual_seed(7)
    assert torch.equal(sample_pixels(kappa, valid, 0.4, 0.7), first)
    assert torch.equal(first[:, :17], second[:, :17]) and not torch.equal(first, second)
    assert not torch.equal(first[0, 17:].sort().values, first[1, 17:].sort().values)  # another one per sample


@pytest.mark.parametrize('size', [(5, 7), (1, 6), (3, 1)])
def test_coordinates_are_pixel_centres_with_aligned_corners(size):
    maps = torch.randn(2, 3, *size)
    index = torch.arange(size[0] * size[1]).repeat(2, 1)
    found = F.grid_sample(maps, grid_coordinates(index, size), mode='bilinear', align_corners=True)[:, :, 0]
    torch.testing.assert_close(found, maps.flatten(2), atol=1e-5, rtol=0)


def test_targets_are_taken_from_the_nearest_pixel():
    maps = torch.randn(2, 3, 12, 18)
    for size in ((12, 18), (5, 6), (1, 3)):
        index = torch.arange(size[0] * size[1]).repeat(2, 1)
        found = nearest_aligned(maps, size)
        if 1 not in size:
            grid = grid_coordinates(index, size)
            expected = F.grid_sample(maps, grid, mode='nearest', align_corners=True)[:, :, 0]
            assert torch.equal(found.flatten(2), expected)
        assert found.shape == (2, 3, *size)
        assert torch.equal(found[..., 0, 0], maps[..., 0, 0])
    assert torch.equal(nearest_aligned(maps, (12, 18)), maps)


# Loss and prediction ----------------------------------------------------------------------------------------------


def interpolated(maps, y, x):
    """Bilinear at fractional pixel coordinates, one point of one sample."""
    y0, x0 = min(int(y), maps.shape[1] - 1), min(int(x), maps.shape[2] - 1)
    y1, x1 = min(y0 + 1, maps.shape[1] - 1), min(x0 + 1, maps.shape[2] - 1)
    dy, dx = y - y0, x - x0
    top = (1 - dx) * maps[:, y0, x0] + dx * maps[:, y0, x1]
    return (1 - dy) * top + dy * ((1 - dx) * maps[:, y1, x0] + dx * maps[:, y1, x1])


def ratio(new, old):
    return (old - 1) / max(1, new - 1)


def one_pixel(head, features, output, size, place):
    """Refined output of one pixel of one sample, by the published definition."""
    y, x = place
    f = interpolated(features, y * ratio(size[0], features.shape[1]), x * ratio(size[1], features.shape[2]))
    o = interpolated(output, y * ratio(size[0], output.shape[1]), x * ratio(size[1], output.shape[2]))
    hidden = torch.cat([f, o])
    for i, layer in enumerate(head):
        if i % 2 == 0:
            hidden = layer.weight[:, :, 0] @ hidden + layer.bias
        else:
            hidden = hidden.relu()
    kappa = hidden[3] + 1.01 if hidden[3] > 0 else hidden[3].exp() + 0.01
    return torch.cat([hidden[:3] / hidden[:3].norm(), kappa[None]])


def sizes_of(outputs):
    maps = outputs['maps']
    return [tuple(m.shape[2:]) for m in maps[1:]] + [(2 * maps[2].shape[2], 2 * maps[2].shape[3])]


def slow_prediction(head, outputs):
    results = []
    for b in range(len(outputs['coarse'])):
        output = outputs['coarse'][b]
        for mlp, features, size in zip(head.point_heads, outputs['maps'], sizes_of(outputs), strict=True):
            rows = [
                torch.stack([one_pixel(mlp, features[b], output, size, (y, x)) for x in range(size[1])], dim=1)
                for y in range(size[0])
            ]
            output = torch.stack(rows, dim=1)
        results.append(output)
    return torch.stack(results)


@pytest.mark.parametrize('size', [(32, 32), (20, 28)])
def test_prediction_refines_every_pixel(size):
    head = tiny_head().double().eval()
    with torch.no_grad():
        outputs = head(pyramid(*size, dtype=torch.float64))
        found = head.predict_by_feat(outputs, [dict(img_shape=size)] * 2)
        expected = slow_prediction(head, outputs)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(found[:, :3].norm(dim=1), torch.ones(2, *size, dtype=torch.float64))
    assert (found[:, 3] > 0.01).all() and found.std() > 0.1


def test_any_input_size_gives_unit_vectors_of_that_size():
    head = tiny_head(norm='BN').eval()
    for height, width in ((37, 53), (16, 90), (64, 1)):
        with torch.no_grad():
            found = head.predict(pyramid(height, width), [dict(img_shape=(height, width))] * 2, None)
        assert found.shape == (2, 4, height, width) and found.isfinite().all()
        torch.testing.assert_close(found[:, :3].norm(dim=1), torch.ones(2, height, width))


def nll(pred, n):
    cosine = float((pred[:3] / pred[:3].norm()) @ n)
    if not n.any() or abs(cosine) >= 0.999:
        return None
    kappa = float(pred[3])
    return -math.log(kappa**2 + 1) + kappa * math.acos(cosine) + math.log(1 + math.exp(-kappa * math.pi))


def mean_known(values, weights):
    """Of (sample, value) pairs; None is left out."""
    values = [(weights[b], value) for b, value in values if value is not None]
    return sum(w * value for w, value in values) / sum(w for w, _ in values)


@pytest.mark.parametrize('size', [(32, 32), (20, 28)])
def test_the_loss_is_the_slow_reference(monkeypatch, size):
    """At given points: dense coarse scale, then three of points, each starting from what the one before refined."""
    height, width = size
    head, batch = tiny_head().double(), samples(height, width)
    points, sample = [], sample_pixels

    def recorded(*arguments):
        points.append(sample(*arguments))
        return points[-1]

    monkeypatch.setattr(bae_normal_head, 'sample_pixels', recorded)
    with torch.no_grad():
        outputs = head(pyramid(height, width, dtype=torch.float64))
        found = head.loss_by_feat(outputs, batch)
        expected = slow_loss(head, outputs, batch, points, size)
    assert set(found) == {'loss_angular_vmf'}
    assert found['loss_angular_vmf'].item() == pytest.approx(expected, rel=1e-7)  # coordinates are float32
    assert [p.shape[1] for p in points] == [int(0.4 * h * w) for h, w in sizes_of(outputs)]


def slow_loss(head, outputs, batch, points, size, weights=(1, 1)):
    target = [sample.gt_normal_map.data.double() for sample in batch]
    height, width = size
    current, losses = list(outputs['coarse']), []
    for b, output in enumerate(current):
        for y in range(height):
            for x in range(width):
                at = interpolated(output, y * ratio(height, output.shape[1]), x * ratio(width, output.shape[2]))
                losses.append((b, nll(at, target[b][:, y, x])))
    total = mean_known(losses, weights)
    for mlp, features, finer, index in zip(head.point_heads, outputs['maps'], sizes_of(outputs), points, strict=True):
        losses = []
        for b, output in enumerate(current):
            rows = [
                [interpolated(output, y * ratio(finer[0], output.shape[1]), x * ratio(finer[1], output.shape[2]))
                 for x in range(finer[1])] for y in range(finer[0])
            ]  # fmt: skip
            next_output = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
            for i in index[b].tolist():
                y, x = divmod(i, finer[1])
                refined = one_pixel(mlp, features[b], output, finer, (y, x))
                next_output[:, y, x] = refined
                n = target[b][:, round(y * ratio(finer[0], height)), round(x * ratio(finer[1], width))]
                losses.append((b, nll(refined, n)))
            current[b] = next_output
        total += mean_known(losses, weights)
    return total


@pytest.mark.parametrize('norm', ['GN', 'BN'])
def test_every_parameter_learns_and_invalid_pixels_teach_nothing(norm):
    head = tiny_head(norm=norm)
    head.loss(pyramid(32, 48), samples(32, 48), None)['loss_angular_vmf'].backward()
    still = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert still == []
    # A convolution's bias in front of a norm of one channel group cannot matter; all others move.
    assert all((p.grad != 0).any() for name, p in head.named_parameters() if p.ndim > 1)
    head.zero_grad()
    loss = head.loss(pyramid(32, 48), samples(32, 48, known=0.0), None)['loss_angular_vmf']
    loss.backward()
    assert loss.item() == 0 and all((p.grad == 0).all() for p in head.parameters())


def test_it_learns_a_scene():
    """Two images with a normal each, told apart by their features."""
    head, inputs = tiny_head(), pyramid(16, 16)
    maps = torch.tensor([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]])[:, :, None, None].expand(2, 3, 16, 16)
    batch = [SegDataSample(gt_normal_map=PixelData(data=m.clone())) for m in maps]
    head.loss_decode[0].drop_aligned = None
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        head.loss(inputs, batch, None)['loss_angular_vmf'].backward()
        optimizer.step()
    with torch.no_grad():
        found = head.predict(inputs, [dict(img_shape=(16, 16))] * 2, None)
    angle = torch.rad2deg((found[:, :3] * maps).sum(1).clamp(-1, 1).acos())
    assert angle.mean() < 15  # 80 to begin with
    assert found[:, 3].mean() > 5  # and it knows that it does


def test_half_precision_gives_float32():
    head = tiny_head()
    with torch.autocast('cpu', torch.bfloat16):
        outputs = head(pyramid(32, 32))
        loss = head.loss_by_feat(outputs, samples(32, 32))['loss_angular_vmf']
        found = head.predict_by_feat(outputs, [dict(img_shape=(32, 32))] * 2)
    assert outputs['coarse'].dtype == loss.dtype == found.dtype == torch.float32
    loss.backward()
    torch.testing.assert_close(found[:, :3].norm(dim=1), torch.ones(2, 32, 32))


# With the segmentor -----------------------------------------------------------------------------------------------


def segmentor():
    backbone = dict(
        type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, out_indices=(0, 1, 2, 3), norm_cfg=dict(type='BN')
    )
    head = dict(
        type='BaeNormalHead', in_channels=[4, 4, 8, 16, 32], widths=WIDTHS, point_channels=8,
        task=dict(type='SurfaceNormal', kappa=True),
    )  # fmt: skip
    return dict(type='EncoderDecoder', backbone=backbone, decode_head=head, test_cfg=dict(mode='whole'))


def test_real_and_synthetic_samples_share_a_forward_pass():
    torch.manual_seed(0)
    model = MODELS.build(segmentor()).eval()
    extract = model.backbone.forward
    model.backbone.forward = lambda images: (lambda maps: (maps[0], *maps))(extract(images))  # a fifth map
    images, batch = torch.randn(3, 3, 32, 32), samples(32, 32, batch=3)
    kinds = [
        Kind('real', torch.tensor([0, 2]), [batch[0], batch[2]], 1.0),
        Kind('synthetic', torch.tensor([1]), [batch[1]], 0.5),
    ]
    torch.manual_seed(5)
    found = losses_by_kind(model, images, kinds, TaskSet(dict(type='SurfaceNormal', kappa=True)))
    torch.manual_seed(5)
    real, synthetic = (model.loss(images[kind.index], kind.samples)['decode.loss_angular_vmf'] for kind in kinds)
    assert found.keys() == {f'{kind}/decode.loss_angular_vmf' for kind in ('real', 'synthetic')}
    torch.testing.assert_close(found['real/decode.loss_angular_vmf'], real)
    torch.testing.assert_close(found['synthetic/decode.loss_angular_vmf'], 0.5 * synthetic)
    with torch.no_grad():
        assert model.encode_decode(images, [dict(img_shape=(32, 32))] * 3).shape == (3, 4, 32, 32)


@pytest.mark.parametrize('weight', [1.0, 0.3])
def test_a_pool_is_one_mean_per_scale_over_real_and_synthetic_pixels(monkeypatch, weight):
    """As published: where few synthetic pixels count, they weigh as many pixels do, at every scale."""
    points, sample = [], sample_pixels

    def recorded(*arguments):
        points.append(sample(*arguments))
        return points[-1]

    monkeypatch.setattr(bae_normal_head, 'sample_pixels', recorded)
    model, size = MODELS.build(segmentor()).double().train(), (32, 32)
    extract = model.backbone.forward
    model.backbone.forward = lambda images: (lambda maps: (maps[0], *maps))(extract(images))
    images, tasks = torch.randn(2, 3, *size).double(), TaskSet(dict(type='SurfaceNormal', kappa=True))
    batch = [samples(*size, batch=1, known=0.8)[0], samples(*size, batch=1, known=0.05, seed=2)[0]]
    batch[1].set_metainfo(dict(synthetic=True))
    kinds = kinds_of(batch, 'pooled', weight, 'loss', tasks, images.device)
    with torch.no_grad():
        found = losses_by_kind(model, images, kinds, tasks)
        outputs = model.decode_head(model.extract_feat(images))
        expected = slow_loss(model.decode_head, outputs, batch, points, size, (1, weight))
    assert set(found) == {'decode.loss_angular_vmf'}
    assert found['decode.loss_angular_vmf'].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('normalize_by', ['pooled', 'batch'])
def test_a_synthetic_image_that_says_nothing(normalize_by):
    """The pool trains as its real part alone; a mean of each kind cuts that gradient by r / (r + s)."""
    torch.manual_seed(0)
    model = MODELS.build(segmentor()).double().train()
    extract = model.backbone.forward
    model.backbone.forward = lambda images: (lambda maps: (maps[0], *maps))(extract(images))
    images, tasks = torch.randn(2, 3, 32, 32).double(), TaskSet(dict(type='SurfaceNormal', kappa=True))
    batch = [samples(32, 32, batch=1)[0], samples(32, 32, batch=1, known=0.0)[0]]
    batch[1].set_metainfo(dict(synthetic=True))
    model.decode_head.importance_ratio = 1.0  # no point is drawn at random

    def gradients(kinds):
        model.zero_grad()
        sum(losses_by_kind(model, images, kinds, tasks).values()).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    found = gradients(kinds_of(batch, normalize_by, 1.0, 'loss', tasks, images.device))
    # One forward pass over both, the loss of the real one.
    kinds = [Kind('real', torch.tensor([0]), batch[:1], 1.0), Kind('synthetic', torch.tensor([1]), batch[1:], 0.0)]
    torch.testing.assert_close(found, gradients(kinds) * (1.0 if normalize_by == 'pooled' else 0.5))


# Published shapes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('norm', ['GN', 'BN'])
def test_the_published_size(norm):
    """Counted layer by layer from the published decoder: 1x1 2048, four fusions, 3x3 output, three point heads."""
    with torch.device('meta'):
        head = BaeNormalHead(norm=norm)
        inputs = [
            torch.empty(2, c, 480 // s, 640 // s)
            for c, s in zip((24, 40, 64, 176, 2048), (2, 4, 8, 16, 32), strict=True)
        ]
        outputs = head(inputs)
        found = head.predict_by_feat(outputs, [dict(img_shape=(480, 640))] * 2)

    def conv(a, b, k):
        return a * b * k * k + b

    def fusion(a, b):
        return conv(a, b, 3) + conv(b, b, 3) + 2 * 2 * b  # each norm: weight and bias

    def points(a):
        return conv(a + 4, 128, 1) + 2 * conv(128, 128, 1) + conv(128, 4, 1)

    expected = (
        conv(2048, 2048, 1)
        + fusion(2048 + 176, 1024) + fusion(1024 + 64, 512) + fusion(512 + 40, 256) + fusion(256 + 24, 128)
        + conv(512, 4, 3)
        + sum(map(points, (512, 256, 128)))
    )  # fmt: skip
    assert sum(p.numel() for p in head.parameters()) == expected == 44_081_552
    assert [tuple(m.shape[1:]) for m in outputs['maps']] == [(512, 60, 80), (256, 120, 160), (128, 240, 320)]
    assert outputs['coarse'].shape == (2, 4, 60, 80) and found.shape == (2, 4, 480, 640)


def test_fusion_standardises_weights():
    """Any affine change of a filter leaves the GN variant as it is."""
    head, inputs = tiny_head().eval(), pyramid(32, 32)
    with torch.no_grad():
        before = head(inputs)['coarse']
        for fusion in head.fusions:
            for i in (0, 3):
                fusion[i].weight.mul_(3.0).add_(0.2)
        torch.testing.assert_close(head(inputs)['coarse'], before, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        (dict(task=dict(type='SurfaceNormal')), 'expected a task with κ'),
        (dict(task=dict(type='Depth')), 'expected a task with κ'),
        (dict(norm='LN'), "unknown norm 'LN'; known: GN, BN"),
        (dict(in_channels=(4, 5, 6, 7)), 'expected five maps at strides 2 to 32 and four widths'),
        (dict(widths=(32, 24, 16, 9)), 'multiples of 8'),
        (dict(sampling_ratio=0), 'expected shares'),
        (dict(importance_ratio=1.1), 'expected shares'),
    ],
)
def test_wrong_settings_say_so(settings, expected):
    with pytest.raises(ValueError, match=expected):
        BaeNormalHead(**{'in_channels': IN, 'widths': WIDTHS, **settings})


def test_the_default_loss_is_the_published_one():
    loss = tiny_head().loss_decode[0]
    assert isinstance(loss, AngularVMFLoss) and loss.drop_aligned == 0.999
    assert tiny_head(loss_decode=dict(LOSS, loss_weight=2.0)).loss_decode[0].loss_weight == 2
