"""UShapedHead against a slow reference; as a head for classes, depth and normals. Levels of 4, 6 and 10 channels."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.checks.channels import check_channels

SIZE, K = (13, 24), 3
TASKS = dict(depth=dict(type='Depth', max_depth=10.0), normal=dict(type='SurfaceNormal'))


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def config(**changes) -> dict:
    return dict(type='UShapedHead', in_channels=[4, 6, 10], widths=[8, 16, 24], dropout_ratio=0) | changes


def levels(batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(-(-SIZE[0] // s), -(-SIZE[1] // s)) for s in (1, 2, 4)]
    return [torch.randn(batch, c, *size, generator=generator) for c, size in zip((4, 6, 10), sizes, strict=True)]


def layer_by_hand(state: dict, name: str, x: torch.Tensor, groups: int = 8) -> torch.Tensor:
    weight = state[f'{name}.conv.weight']
    x = F.conv2d(x, weight, padding=weight.shape[-1] // 2).unflatten(1, (groups, -1))
    deviation = (x.var((2, 3, 4), keepdim=True, unbiased=False) + 1e-5).sqrt()
    x = ((x - x.mean((2, 3, 4), keepdim=True)) / deviation).flatten(1, 2)
    return (x * state[f'{name}.gn.weight'][:, None, None] + state[f'{name}.gn.bias'][:, None, None]).clamp(min=0)


def test_by_hand():
    torch.manual_seed(0)
    head = MODELS.build(config(num_classes=K))
    for parameter in head.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    state, inputs, x = head.state_dict(), levels(), None
    for i in (2, 1, 0):
        skip = layer_by_hand(state, f'laterals.{i}', inputs[i])
        if x is not None:
            x = F.interpolate(x, skip.shape[2:], mode='bilinear', align_corners=False)
        x = skip if x is None else torch.cat([skip, x], 1)
        for j in (0, 1):
            x = layer_by_hand(state, f'levels.{i}.{j}', x)
    expected = F.conv2d(x, state['conv_seg.weight'], state['conv_seg.bias'])
    found = head(inputs)
    assert found.shape == (2, K, *SIZE)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    found.square().sum().backward()
    assert [name for name, p in head.named_parameters() if p.grad is None] == []


def test_parameters_in_closed_form():
    """Lateral, two 3×3 convolutions, three norms of 2 numbers per channel; the classes."""
    head = MODELS.build(config(num_classes=K))
    widths, below, inputs = (8, 16, 24), (16, 24, 0), (4, 6, 10)
    expected = sum(c * w + 9 * (w + b) * w + 9 * w * w + 6 * w for c, w, b in zip(inputs, widths, below, strict=True))
    assert sum(p.numel() for p in head.parameters()) == expected + K * (8 + 1)


@pytest.mark.parametrize('chosen', [[1], [2, 0], [0, 1, 2], [1, -1]])
def test_any_levels_in_the_order_that_is_given(chosen):
    channels = [(4, 6, 10)[i] for i in chosen]
    head = MODELS.build(config(in_channels=channels, widths=8, in_index=chosen, num_classes=K))
    inputs = levels()
    assert head(inputs).shape == (2, K, *inputs[chosen[0]].shape[2:]) and head.channels == 8
    alone = MODELS.build(config(in_channels=channels, widths=8, num_classes=K))
    alone.load_state_dict(head.state_dict())
    assert torch.equal(alone([inputs[i] for i in chosen]), head(inputs))


def test_another_norm():
    head = MODELS.build(config(num_classes=K, norm_cfg=dict(type='BN')))
    norms = [type(m).__name__ for m in head.modules() if 'Norm' in type(m).__name__]
    assert norms == ['BatchNorm2d'] * 9


def test_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match=r'found 2 widths and 3 maps \(in_index\) for 3 in_channels'):
        MODELS.build(config(widths=[8, 8], num_classes=K))
    with pytest.raises(ValueError, match='found 3 widths and 1 maps'):
        MODELS.build(config(in_index=[0], num_classes=K))


def samples(name: str) -> list[SegDataSample]:
    generator, found = torch.Generator().manual_seed(2), []
    values = dict(
        gt_sem_seg=torch.randint(K, (1, *SIZE), generator=generator),
        gt_depth_map=1 + 5 * torch.rand(1, *SIZE, generator=generator),
        gt_normal_map=F.normalize(torch.randn(3, *SIZE, generator=generator), dim=0),
    )
    for _ in range(2):
        found.append(SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE)))
        found[-1].set_data({name: PixelData(data=values[name])})
    return found


@pytest.mark.parametrize('task', ['classes', 'depth', 'normal'])
def test_it_learns_classes_depth_and_normals(task):
    torch.manual_seed(0)
    if task == 'classes':
        head, field = MODELS.build(config(num_classes=K)), 'gt_sem_seg'
    else:
        head, field = MODELS.build(dict(type='DenseTaskHead', task=TASKS[task], head=config())), f'gt_{task}_map'
    inputs, data = levels(), samples(field)
    optimizer, losses = torch.optim.Adam(head.parameters(), lr=1e-2), []
    for _ in range(30):
        found = head.loss(inputs, data, None)
        losses.append(sum(value for name, value in found.items() if 'loss' in name))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    output = head.predict(inputs, [dict(img_shape=SIZE, ori_shape=SIZE)] * 2, None)
    assert output.shape == (2, dict(classes=K, depth=1, normal=3)[task], *SIZE)


class Whole(torch.nn.Module):
    """A model with three levels of 4, 6 and 11 channels at strides 1, 2 and 4."""

    def __init__(self, head: dict):
        super().__init__()
        self.backbone, self.decode_head = torch.nn.Module(), MODELS.build(head)
        self.backbone.out_channels, self.backbone.strides = [4, 6, 11], [1, 2, 4]


@pytest.mark.parametrize(
    ('head', 'name'),
    [
        (lambda h: dict(h, num_classes=K), 'decode_head'),
        (lambda h: dict(type='GenerativeDecodeHead', head=dict(h, num_classes=K)), 'decode_head'),
        (lambda h: dict(type='DenseTaskHead', task=TASKS['depth'], head=h), 'decode_head'),
        (
            lambda h: dict(type='GenerativeDecodeHead', head=dict(type='DenseTaskHead', task=TASKS['normal'], head=h)),
            'decode_head',
        ),
        (
            lambda h: dict(
                type='TaskHeads',
                tasks=TASKS,
                heads={name: dict(type='DenseTaskHead', task=task, head=h) for name, task in TASKS.items()},
            ),
            'decode_head.heads.depth',
        ),
    ],
)
def test_channels_that_do_not_fit_are_told_with_the_right_ones(head, name):
    message = rf'{name}.in_channels is \[4, 6, 10\], but the backbone gives \[4, 6, 11\]: .* at strides \[1, 2, 4\]'
    with pytest.raises(ValueError, match=message):
        check_channels(Whole(head(config())))
    check_channels(Whole(head(config(in_channels=[4, 6, 11]))))
    check_channels(Whole(head(config(in_channels=[4, 6], widths=8))))
