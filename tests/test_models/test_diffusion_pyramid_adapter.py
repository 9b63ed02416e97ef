"""DiffusionPyramidAdapter: sizes for any pyramid, what each output depends on, no idle parameter."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.tasks  # noqa: F401
from mmdiff2in1.models.decode_heads.bae_normal_head import BaeNormalHead
from mmdiff2in1.models.necks.diffusion_pyramid_adapter import DiffusionPyramidAdapter

OUT = (8, 12, 16, 20, 24)
STABLE_DIFFUSION = (8, 16, 32, 64)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def adapter(strides, **settings):
    torch.manual_seed(0)
    return DiffusionPyramidAdapter([6 + i for i in range(len(strides))], strides, out_channels=OUT, **settings)


def pyramid(strides, height, width, batch=2, scale=1.0):
    return [
        scale * torch.randn(batch, 6 + i, math.ceil(height / s), math.ceil(width / s)) for i, s in enumerate(strides)
    ]


@pytest.mark.parametrize(
    ('strides', 'settings'),
    [
        (STABLE_DIFFUSION, {}),
        (STABLE_DIFFUSION, dict(joins=(8, 8, 16, 32))),
        ((2, 4, 8, 16), {}),  # the built-in model
        ((4, 8, 16, 32), {}),
        ((1, 2, 4), {}),
        ((16,), {}),
        ((8, 64), {}),
    ],
)
def test_five_maps_at_their_strides_and_every_parameter_learns(strides, settings):
    neck = adapter(strides, **settings)
    maps = neck(pyramid(strides, 64, 128))
    assert [tuple(x.shape) for x in maps] == [
        (2, c, 64 // s, 128 // s) for c, s in zip(OUT, (2, 4, 8, 16, 32), strict=True)
    ]
    sum(x.square().sum() for x in maps).backward()
    assert [n for n, p in neck.named_parameters() if p.grad is None or not (p.grad != 0).any()] == []


@pytest.mark.parametrize('size', [(37, 53), (100, 8), (1, 1)])
def test_any_input_size(size):
    for strides in (STABLE_DIFFUSION, (2, 4, 8, 16)):
        maps = adapter(strides).eval()(pyramid(strides, *size))
        for x, stride in zip(maps, (2, 4, 8, 16, 32), strict=True):
            covered = [n * stride for n in x.shape[2:]]
            assert x.isfinite().all()
            assert all(side <= c for side, c in zip(size, covered, strict=True))
        if strides[0] == 8:  # known: ceil(n / 8) cells of stride 8, and two doublings of them
            cells = [math.ceil(n / 8) for n in size]
            assert [list(x.shape[2:]) for x in maps[:3]] == [[4 * n for n in cells], [2 * n for n in cells], cells]


def test_cells_stay_where_they_are_in_the_image():
    """Height 40: three cells at stride 16 reach to 48, and five at stride 8 to 40; rows are not squeezed."""
    neck = DiffusionPyramidAdapter([1, 1], (8, 16), out_channels=(1, 1), out_strides=(8, 16), groups=1)
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.zero_()
        neck.laterals[1].weight.fill_(1)
        neck.top_down['0'].weight.fill_(1)
        rows = 8 + 16 * torch.arange(3.0).view(1, 1, 3, 1).expand(1, 1, 3, 3)  # centres of the cells, pixels
        fine, coarse = neck([torch.zeros(1, 1, 5, 5), rows])
    assert torch.equal(coarse, rows)
    torch.testing.assert_close(fine[0, 0, 1:, 0], 4 + 8 * torch.arange(1.0, 5))


def reads(strides, **settings):
    """Output stride → the input strides that it depends on."""
    neck, inputs = adapter(strides, **settings).eval(), pyramid(strides, 64, 64, batch=1)
    found = {}
    for j, stride in enumerate((2, 4, 8, 16, 32)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        neck(leaves)[j].square().sum().backward()
        found[stride] = [s for s, x in zip(strides, leaves, strict=True) if x.grad is not None and (x.grad != 0).any()]
    return found


def test_information_flows_top_down():
    assert reads(STABLE_DIFFUSION) == {
        2: [8, 16, 32, 64], 4: [8, 16, 32, 64], 8: [8, 16, 32, 64], 16: [16, 32, 64], 32: [32, 64]
    }  # fmt: skip
    assert reads(STABLE_DIFFUSION, joins=(8, 8, 16, 32)) == {
        2: [8, 16, 32, 64], 4: [8, 16, 32, 64], 8: [8, 16, 32, 64], 16: [32, 64], 32: [64]
    }  # fmt: skip
    assert reads((2, 4, 8)) == {2: [2, 4, 8], 4: [4, 8], 8: [8], 16: [8], 32: [8]}


def test_an_output_is_the_documented_sum():
    neck = adapter(STABLE_DIFFUSION).eval()
    inputs = pyramid(STABLE_DIFFUSION, 64, 64)
    with torch.no_grad():
        maps = neck(inputs)

        def at(x, side):
            return F.interpolate(x, (side, side), mode='bilinear', align_corners=False)

        coarsest = neck.blocks['4'](neck.laterals[2](inputs[2]) + at(neck.laterals[3](inputs[3]), 2))
        torch.testing.assert_close(maps[4], coarsest)
        middle = neck.blocks['3'](neck.laterals[1](inputs[1]) + at(neck.top_down['3'](coarsest), 4))
        torch.testing.assert_close(maps[3], middle)
        torch.testing.assert_close(maps[1], neck.finer['1'](maps[2]))
        torch.testing.assert_close(maps[0], neck.finer['0'](maps[1]))
        # A residual block of zero weights changes nothing.
        neck.blocks['4'].layers[-1].weight.zero_()
        neck.blocks['4'].layers[-1].bias.zero_()
        expected = neck.laterals[2](inputs[2]) + at(neck.laterals[3](inputs[3]), 2)
        torch.testing.assert_close(neck(inputs)[4], expected)


def test_the_head_reads_it_and_learns_from_it():
    neck = MODELS.build(dict(type='DiffusionPyramidAdapter', in_channels=[6, 7, 8, 9], out_channels=OUT))
    head = BaeNormalHead(OUT, widths=(32, 24, 16, 8), point_channels=8)
    height, width = 52, 40
    normals = F.normalize(torch.randn(3, height, width), dim=0)
    sample = SegDataSample(gt_normal_map=PixelData(data=normals))
    head.loss(neck(pyramid(STABLE_DIFFUSION, height, width, batch=1)), [sample], None)['loss_angular_vmf'].backward()
    assert [n for n, p in neck.named_parameters() if p.grad is None or not (p.grad != 0).any()] == []
    with torch.no_grad():
        found = head.predict(
            neck(pyramid(STABLE_DIFFUSION, height, width)), [dict(img_shape=(height, width))] * 2, None
        )
    assert found.shape == (2, 4, height, width)


def test_the_size_for_stable_diffusion():
    """All 25 taps of SD 1.x at 512 × 512, as released: side 64 has 2560 channels, 32 has 4160, 16 7040, 8 7680."""
    channels = (2560, 4160, 7040, 7680)
    with torch.device('meta'):
        neck = DiffusionPyramidAdapter(channels, joins=(8, 8, 16, 32))
        maps = neck([torch.empty(1, c, 512 // s, 512 // s) for c, s in zip(channels, STABLE_DIFFUSION, strict=True)])
    assert [tuple(x.shape[1:]) for x in maps] == [
        (24, 256, 256), (40, 128, 128), (64, 64, 64), (176, 32, 32), (2048, 16, 16)
    ]  # fmt: skip
    laterals = (2560 + 1) * 64 + (4160 + 1) * 64 + (7040 + 1) * 176 + (7680 + 1) * 2048
    top_down = (2048 + 1) * 176 + (176 + 1) * 64

    def block(c):
        inner = c // 4
        norms = 2 * (c + inner + inner)
        return norms + c * inner + inner + 9 * inner * inner + inner + inner * c + c

    finer = (64 * 4 + 1) * 40 + 2 * 40 + (40 * 4 + 1) * 24 + 2 * 24
    assert (
        sum(p.numel() for p in neck.parameters()) == laterals + top_down + block(64) + block(176) + block(2048) + finer
    )


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        (dict(in_strides=(8, 16)), 'found 4 in_channels and 2 in_strides'),
        (dict(in_strides=(8, 16, 64, 32)), 'expected rising ones'),
        (dict(out_strides=(2, 4, 8, 16, 64)), 'each of the out_strides twice the one before'),
        (dict(joins=(8, 16, 32, 64)), r'found joins=\(8, 16, 32, 64\), expected one of \(2, 4, 8, 16, 32\)'),
    ],
)
def test_mistakes_say_so(settings, expected):
    with pytest.raises(ValueError, match=expected):
        DiffusionPyramidAdapter([4, 4, 4, 4], **settings)
