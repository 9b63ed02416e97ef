"""InvPTHead against InvPT written out plainly, messages by hand, deep supervision, any tasks and any size."""

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from invpt_reference import ORDER, Reference, published
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from tiny_invpt import SIZES, TASKS, THEIRS, K, head, maps, samples, segmentor
from torch import nn

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.converters.invpt import TASKS as NAMES
from mmdiff2in1.converters.invpt import InvPT
from mmdiff2in1.models import SelfImprovingSegmentor, task_loss
from mmdiff2in1.models.multitask.invpt.aggregation import JointNorm
from mmdiff2in1.models.multitask.invpt.message_attention import MessageAttention
from mmdiff2in1.models.recomputing import recomputed
from mmdiff2in1.tasks import TaskSet

WEIGHTS = dict(semantic_segmentation=1, depth=1, human_parts=2, saliency=5, normal=10, edge=50)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def theirs(*names):
    return {task: THEIRS[task] for task in ORDER if not names or NAMES[task] in names}


def head_and_reference(*names, training=False, **settings):
    """The same weights in both."""
    tasks = theirs(*names)
    state = published(tasks, positions=33, **SIZES)
    built = MODELS.build(head(*(NAMES[task] for task in tasks), **settings)).train(training)
    ours = InvPT().to_ours(state).state
    own = {name.removeprefix('decode_head.'): value for name, value in ours.items() if name.startswith('decode_head.')}
    built.load_state_dict(own)
    return built, Reference(state, tasks, training)


@pytest.mark.parametrize('names', [(), ('semantic_segmentation', 'depth', 'normal'), ('saliency',)])
@pytest.mark.parametrize('training', [False, True])
def test_predictions_are_those_of_the_formulas(names, training):
    built, reference = head_and_reference(*names, training=training)
    inputs = maps()
    with torch.no_grad():
        found, expected = built(inputs), reference.decoder(inputs)
    assert list(found) == [NAMES[task] for task in expected]
    for task, parts in expected.items():
        for one, other, stride in zip(found[NAMES[task]], parts, (4, 32), strict=True):
            assert one.shape == (2, THEIRS[task], 64 // stride, 128 // stride)
            assert other.std() > 0.03  # worth comparing
            torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)


def test_gradients_are_those_of_the_formulas_however_they_are_computed():
    inputs = maps()

    def gradients(outputs, leaves):
        total = sum(part.square().mean() for parts in outputs.values() for part in parts)
        return total, torch.autograd.grad(total, leaves)

    found = {}
    for checkpointing in (True, False):
        built, reference = head_and_reference(training=True, checkpointing=checkpointing)
        leaves = [x.clone().requires_grad_() for x in inputs]
        total, of_maps = gradients(built(leaves), [leaves[i] for i in (0, 1, 3)])
        found[checkpointing] = of_maps, [buffer.clone() for buffer in built.buffers()]
        own = [x.clone().requires_grad_() for x in inputs]
        expected, theirs_ = gradients(reference.decoder(own), [own[i] for i in (0, 1, 3)])
        torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-4)
        for one, other in zip(of_maps, theirs_, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)
    # Running statistics move once, and to the same values.
    assert any(buffer.dtype == torch.int64 and buffer == 13 for buffer in found[True][1])
    for one, other in zip(*(found[key][1] for key in (True, False)), strict=True):
        assert torch.equal(one, other)


def test_only_what_has_an_effect():
    """Every parameter gets a gradient, so that DDP needs no search."""
    built = MODELS.build(head()).train()
    losses = built.loss_by_feat(built(maps()), samples())
    sum(losses.values()).backward()
    assert [name for name, p in built.named_parameters() if p.grad is None or not p.grad.any()] == []


def attention(width, pooling, messages):
    """Linear layers that change nothing, queries that pick the upper left of four pixels."""
    module = MessageAttention(['a', 'b'], width, pooling, messages, dict(type='BN')).eval()
    with torch.no_grad():
        for linear in (module.query, module.key, module.value, module.output):
            linear.weight.copy_(torch.eye(width))
            linear.bias.zero_()
        for conv, norm in module.query_convs.values():
            conv.weight.zero_()
            conv.weight[:, 0, 1, 1] = 1
            norm.eps = 0.0
    return module


def test_messages_of_two_tasks_by_hand():
    """C = 2, a head of one channel each. Two tasks of 2 × 2 pixels: one query and one key each."""
    a = torch.tensor([[1.0, 0], [0, 0]])
    b = torch.tensor([[0.0, 0], [0, 4]])
    x = torch.stack([torch.stack([a, 2 * a], -1), torch.stack([b + 1, b], -1)])[None]  # (1, 2, 2, 2, 2)
    first = attention(2, 2, messages=False)
    read, scores = first(x, None)
    # Queries: the upper left pixels (1, 2) and (1, 0); keys: means (1/4, 1/2) and (2, 1). Over √(2): C^-1/2.
    q, k = torch.tensor([[1.0, 2], [1, 0]]), torch.tensor([[0.25, 0.5], [2, 1]])
    expected = torch.stack([q[:, i, None] * k[None, :, i] for i in (0, 1)]) / 2**0.5  # (heads, queries, keys)
    torch.testing.assert_close(scores, expected.view(1, 2, 2, 1, 1, 2))
    mixed = torch.stack([expected[i].softmax(-1) @ k[:, i] for i in (0, 1)], -1)  # (tasks, C)
    torch.testing.assert_close(read, mixed.view(1, 2, 1, 1, 2).expand(1, 2, 2, 2, 2))
    # The next stage: 4 × 4 pixels, 2 × 2 queries and one key each; the message is the same for all four queries.
    second = attention(2, 4, messages=True)
    with torch.no_grad():
        second.fuse.weight.copy_(torch.tensor([[10.0, 0, 1, 0], [0, 20, 0, 2]])[:, :, None, None])
        second.fuse.bias.copy_(torch.tensor([0.5, -0.5]))
    y = torch.arange(64.0).view(1, 2, 4, 4, 2) / 64
    _, fused = second(y, scores)
    q, k = y[0, :, ::2, ::2], y[0].mean((1, 2))  # (tasks, 2, 2, C), (tasks, C)
    for i, (of_message, own, bias) in enumerate([(1, 10, 0.5), (2, 20, -0.5)]):
        plain = torch.einsum('tyx,s->tyxs', q[..., i], k[:, i]) / 2**0.5
        torch.testing.assert_close(fused[0, i], of_message * scores[0, i] + own * plain + bias)


def test_messages_between_grids_are_bilinear_over_the_queries():
    """Scores of 1 × 2 queries become 2 × 4: 0, 1 → 0, 1/4, 3/4, 1, for each key apart."""
    module = attention(2, 4, messages=True)
    with torch.no_grad():
        module.fuse.weight.copy_(torch.tensor([[0.0, 0, 1, 0], [0, 0, 0, 1]])[:, :, None, None])
        module.fuse.bias.zero_()
    messages = torch.zeros(1, 2, 2, 1, 2, 4)
    messages[..., 1, :] = torch.tensor([1.0, 2, 3, 4])
    _, fused = module(torch.randn(1, 2, 4, 8, 2), messages)
    expected = torch.tensor([0, 0.25, 0.75, 1])[:, None] * torch.tensor([1.0, 2, 3, 4])
    torch.testing.assert_close(fused, expected.expand(1, 2, 2, 2, 4, 4))


def test_the_norm_is_over_all_tasks_together():
    module = JointNorm(['b', 'a'], 2)
    with torch.no_grad():
        module.weights['a'].copy_(torch.tensor([2.0, 3]))
        module.biases['a'].copy_(torch.tensor([0.0, 1]))
    of_b, of_a = module(torch.tensor([1.0, 3, 5, 7]).view(1, 2, 1, 1, 2))
    unit = (torch.tensor([1.0, 3, 5, 7]) - 4) / (5 + 1e-5) ** 0.5
    torch.testing.assert_close(of_b.flatten(), unit[:2])
    torch.testing.assert_close(of_a.flatten(), unit[2:] * torch.tensor([2.0, 3]) + torch.tensor([0.0, 1]))


@pytest.mark.parametrize('checkpointing', [True, False])
def test_deep_supervision(checkpointing):
    """The losses of both predictions at the size of the labels, with the factors of the published recipe."""
    built, _ = head_and_reference(checkpointing=checkpointing, preliminary_weight=0.5, training=True)
    outputs, batch = built(maps()), samples()
    losses = built.loss_by_feat(outputs, batch)
    assert set(losses) == {f'{name}.loss{end}' for name in TASKS for end in ('', '_preliminary')}
    for name, task in TaskSet(TASKS).items():
        ground_truth = torch.stack([sample.get(task.field).data for sample in batch])
        for raw, end, factor in zip(outputs[name], ('', '_preliminary'), (1, 0.5), strict=True):
            full = F.interpolate(raw, (64, 128), mode='bilinear', align_corners=False)
            expected = factor * WEIGHTS[name] * task_loss(task, full, ground_truth)
            torch.testing.assert_close(losses[f'{name}.loss{end}'], expected)
    own = MODELS.build(head(task_weights=dict(depth=7.0)))
    assert own.task_weights == WEIGHTS | dict(depth=7)


def test_a_prediction_is_what_the_tasks_expect():
    built, reference = head_and_reference()
    inputs = maps()
    with torch.no_grad():
        found = built.predict(inputs, [dict(img_shape=(64, 128))] * 2, ConfigDict(mode='whole'))
        parts, expected = built.tasks.split(found), reference.decoder(inputs)
    for task, (raw, _) in expected.items():
        full = F.interpolate(raw, (64, 128), mode='bilinear', align_corners=False)
        if task == 'normals':
            full = F.normalize(full, dim=1)
        torch.testing.assert_close(parts[NAMES[task]], full, atol=2e-5, rtol=2e-5)


def test_a_step_through_the_segmentor():
    torch.manual_seed(0)
    model = MODELS.build(segmentor()).train()
    images, batch = torch.randn(2, 3, 64, 128), samples()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-6)
    seen = []
    for _ in range(4):
        losses = model.loss(images, batch)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        seen.append(total.item())
    assert {name.split('.')[0] for name in losses} == {'decode'} and len(losses) == 12
    assert seen[-1] < seen[0]
    found = model.eval().predict(images)
    assert found[0].pred_sem_seg.data.shape == (1, 64, 128) and found[0].pred_sem_seg.data.max() < K
    torch.testing.assert_close(found[0].pred_normal_map.data.norm(dim=0), torch.ones(64, 128))


def test_a_missing_label_teaches_nothing():
    built, _ = head_and_reference(training=True)
    outputs = built(maps())
    batch = built.tasks.completed(samples('depth', 'normal', 'saliency'), (64, 128))
    losses = built.loss_by_feat(outputs, batch)
    for name in TASKS:
        missing = name not in ('depth', 'normal', 'saliency')
        assert (losses[f'{name}.loss'] == 0) == (losses[f'{name}.loss_preliminary'] == 0) == missing
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in built.parameters())
    assert not built.outputs['edge'].predict.weight.grad.any() and built.outputs['depth'].predict.weight.grad.any()


@pytest.mark.parametrize('size', [(16, 16), (48, 80), (100, 37), (144, 160)])
def test_any_input_size(size):
    """Also where the published code stops; a crop from the upper left of a larger image sees the same cells."""
    torch.manual_seed(0)
    model = MODELS.build(segmentor('depth', 'normal')).eval()
    with torch.no_grad():
        output = model.encode_decode(torch.randn(1, 3, *size), [dict(img_shape=size)])
    assert output.shape == (1, 4, *size) and output.isfinite().all()
    losses = model.train().loss(torch.randn(2, 3, *size), samples('depth', 'normal', size=size))
    assert all(value.isfinite() for value in losses.values())


def test_odd_maps_stay_where_they_are():
    """What a half cell beyond the border would show shifts nothing: a step in the maps stays at its pixel."""
    built, _ = head_and_reference('depth', training=False)
    x = torch.zeros(1, 64, 3, 3)
    x[..., 2] = 1.0
    size = built._at_coarsest(x, (2, 2))
    torch.testing.assert_close(size[0, 0], torch.tensor([[0.0, 1], [0, 1]]))  # cells 0, 1 | 2, and 2 again


def test_on_the_pyramid_of_a_diffusion_model():
    """Levels at 1/8, 1/16, 1/32 and 1/64: the skips land on 1/8 and 1/16 without a transposed convolution."""
    torch.manual_seed(0)
    levels = [torch.randn(2, channels, *(-(-side // stride) for side in (72, 104)))
              for channels, stride in ((6, 8), (8, 16), (8, 32), (10, 64))]  # fmt: skip
    neck = MODELS.build(
        dict(
            type='DiffusionPyramidAdapter', in_channels=(6, 8, 8, 10), out_channels=(16, 16, 32),
            out_strides=(8, 16, 32), groups=2,
        )
    )  # fmt: skip
    built = MODELS.build(
        head('depth', 'edge', in_channels=(16, 16, 32), in_index=(0, 1, 2), in_strides=(8, 16, 32))
    ).train()
    assert not any(isinstance(module, nn.ConvTranspose2d) for module in built.modules())
    outputs = built(neck(levels))
    assert outputs['depth'][0].shape == (2, 1, 18, 26) and outputs['depth'][1].shape == (2, 1, 3, 4)
    sum(built.loss_by_feat(outputs, samples('depth', 'edge', size=(72, 104))).values()).backward()
    assert all(p.grad is not None for module in (neck, built) for p in module.parameters())


def test_the_loop_wraps_it():
    """θ_C labels all tasks; weights of pixels and what divides them have the meaning that they have elsewhere."""
    torch.manual_seed(0)
    names = ('semantic_segmentation', 'depth', 'edge')
    batch = samples(*names)
    batch[1].set_metainfo(dict(synthetic=True))
    images = torch.randn(2, 3, 64, 128)
    found = {}
    for divide_by in ('loss', 'counted', 'all'):
        torch.manual_seed(1)
        model = SelfImprovingSegmentor(
            segmentor(*names), normalize_by='pooled', divide_by=divide_by, synthetic_weight=0.5
        ).train()
        found[divide_by] = model.loss(images, batch)
    assert {f'kept_share/{name}' for name in names} < set(found['loss'])
    for name in names:
        key = f'decode.{name}.loss'
        torch.testing.assert_close(found['loss'][key], found['counted'][key])
        assert 0.5 * found['loss'][key] < found['all'][key] < found['loss'][key]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(in_strides=(32, 16, 16)), 'a skip at stride 32 cannot land on 1/8'),
        (dict(task_weights=dict(colour=1.0)), 'task_weights of colour; the tasks are semantic_segmentation'),
        (dict(widths=(12, 8)), 'expected three of each'),
    ],
)
def test_settings_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(head(**change))


def test_skips_of_other_strides_are_named():
    built = MODELS.build(head('depth', in_strides=(8, 16, 16)))
    with pytest.raises(ValueError, match=r'the skips have \(4, 8\) and \(4, 8\) cells'):
        built(maps())


def test_recomputing_keeps_the_inputs_alone():
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 1)).train()
    x, kept = torch.randn(4, 2, 5, 5, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(tuple(t.shape)) or t, lambda t: t):
        out = recomputed(module, x)
    assert [shape for shape in kept if shape != (0,)] == [(4, 2, 5, 5)]
    out.sum().backward()
    assert module[1].num_batches_tracked == 1 and module[1].momentum == 0.1
    mean = module[0](x).mean((0, 2, 3))
    torch.testing.assert_close(module[1].running_mean, 0.1 * mean)
