"""TaskPrompter against a plain writing of its formulas, closed forms of its parts, and as a segmentor."""

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from tiny_taskprompter import SIZE, TASKS, TINY, K, images, samples, segmentor, stirred
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.converters import taskprompter as converter
from mmdiff2in1.models.multitask.taskprompter.block import PromptedAttention, PromptedBlock, PromptScores
from mmdiff2in1.models.multitask.taskprompter.channel_windows import channel_scores, over_windows
from mmdiff2in1.models.multitask.taskprompter.fusion import PromptFusion, TaskFeature
from mmdiff2in1.models.multitask.taskprompter.grid import GridLink, on_grid
from mmdiff2in1.models.multitask.taskprompter.head import Branch
from mmdiff2in1.tasks import TaskSet

from benchmarks.plain_taskprompter import Setup, forward  # isort: skip

META = dict(img_shape=SIZE, ori_shape=SIZE, pad_shape=SIZE)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def built(*names, **settings):
    torch.manual_seed(0)
    return stirred(MODELS.build(segmentor(*names, **settings)))


def in_their_names(model):
    """State for the plain writing, with gradients, and its setup."""
    backbone = model.backbone
    theirs = converter.TaskPrompter(size=SIZE, head_width=TINY['width'] // TINY['heads'])
    state = {name: tensor.clone() for name, tensor in theirs.to_theirs(model.state_dict()).state.items()}
    for name, tensor in state.items():
        if tensor.is_floating_point() and 'running' not in name:
            tensor.requires_grad_()
    names = [name for name, ours in converter.TASKS.items() if ours in model.tasks]
    return state, Setup(names, TINY['heads'], backbone.taps, backbone.channel_windows)


# The whole


@pytest.mark.parametrize(
    'settings', [dict(), dict(reweighted=False, channel_windows=1), dict(taps=(1, 2, 4))], ids=['mixed', 'one', 'deep']
)
@pytest.mark.parametrize('training', [False, True])
def test_outputs_and_gradients_are_those_of_the_formulas(settings, training):
    model = built(**settings).train(training)
    state, setup = in_their_names(model)
    expected, _ = forward(state, images(), setup, training)
    raw = model.decode_head(model.backbone(images()))
    found = {name: F.interpolate(y, SIZE, mode='bilinear') for name, y in raw.items()}
    for name, output in expected.items():
        torch.testing.assert_close(found[converter.TASKS[name]], output, rtol=1e-4, atol=1e-4)
    sum((y * y.detach().roll(1, -1)).mean() for y in found.values()).backward()
    sum((y * y.detach().roll(1, -1)).mean() for y in expected.values()).backward()
    parts = {name: parameter.grad for name, parameter in model.named_parameters()}
    gradients = converter.TaskPrompter(size=SIZE, head_width=TINY['width'] // TINY['heads']).to_theirs(
        {name: parts.get(name, tensor) for name, tensor in model.state_dict().items()}
    )
    checked = 0
    for name, gradient in gradients.state.items():
        if state[name].grad is not None and name != 'backbone.pos_embed':
            scale = state[name].grad.abs().max().clamp(min=1)
            torch.testing.assert_close(gradient / scale, state[name].grad / scale, rtol=1e-3, atol=1e-4)
            checked += 1
    assert checked > 100
    torch.testing.assert_close(
        model.backbone.position.grad, state['backbone.pos_embed'].grad[0, 1:], rtol=1e-3, atol=1e-3
    )
    assert not state['backbone.pos_embed'].grad[0, 0].any()  # the class token's place has no effect
    last = [state[f'backbone.blocks.3.attn.token_trans1.{kind}'].grad for kind in ('weight', 'bias')]
    assert all(gradient is None or not gradient.any() for gradient in last)  # neither has W2 of the last block


def test_everything_learns():
    """No parameter without a gradient, which distributed training would stop at."""
    model = built().train()
    model.parse_losses(model.loss(images(), samples()))[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    still = [name for name, p in model.named_parameters() if not p.grad.any()]
    assert all(name.endswith(('smooth.bias', 'conv.bias')) for name in still)  # a batch norm takes them away again


def test_tasks_may_stand_in_any_order():
    """Prompts know their names: the same weights in another order give the same maps."""
    names = ('edge', 'semantic_segmentation', 'normal')
    one, other = built(*names).eval(), built(*reversed(names)).eval()
    other.load_state_dict(one.state_dict())
    first, second = (m.tasks.split(m.encode_decode(images(), [META] * 2)) for m in (one, other))
    for name in names:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-4)


# Scores


def test_attention_is_the_ordinary_one_and_scores_are_raw_products():
    torch.manual_seed(0)
    attention, tokens = PromptedAttention(12, 3), torch.randn(2, 7, 12)
    found, scores = attention(tokens, 2, scored=True)
    q, k, v = (part.reshape(2, 7, 3, 4).transpose(1, 2) for part in attention.qkv(tokens).split(12, dim=-1))
    products = torch.einsum('bald,bamd->balm', q, k)
    read = torch.einsum('balm,bamd->bald', (products / 2).softmax(-1), v)
    torch.testing.assert_close(found, attention.proj(read.transpose(1, 2).reshape(2, 7, 12)))
    torch.testing.assert_close(scores, products[:, :, :2])
    assert attention(tokens, 2, scored=False)[1] is None


def test_channel_scores_by_hand():
    """Two channels on 2 × 4 patches: one window sums all of them, 2 × 2 windows sum 1 × 2 each."""
    query = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    first, second = torch.ones(2, 4), torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, -1]])
    queries = torch.stack([query.flatten(), 10 * query.flatten()])[None]  # (1, 2, 8)
    keys = torch.stack([first.flatten(), second.flatten()], dim=1)[None]  # (1, 8, 2)
    whole = channel_scores(queries, keys, (2, 4), 1)
    assert whole[..., 0, 0].tolist() == [[[36, 1 - 8], [360, 10 - 80]]]
    windows = channel_scores(queries, keys, (2, 4), 2)
    assert windows[0, 0].tolist() == [[[3, 7], [11, 15]], [[1, 0], [0, -8]]]
    spread = over_windows(windows[:, 0], (2, 4))
    assert spread[0, 0].tolist() == [[3, 3, 7, 7], [11, 11, 15, 15]]


def test_a_feature_by_hand():
    """One head, identity layers: the join gives x (1 + score) of both kinds, side by side."""
    feature = TaskFeature(2, 2, 4, dict(type='BN')).eval()
    with torch.no_grad():
        for layer in (feature.spatial, feature.channel, feature.join, feature.refine[2]):
            layer.weight.copy_(torch.eye(len(layer.weight))[:, :, None, None])
            layer.bias.zero_()
        feature.smooth.weight.zero_()
        feature.smooth.weight[:, :, 1, 1] = torch.eye(4)
        feature.smooth.bias.zero_()
        x = torch.arange(1.0, 9).reshape(1, 2, 2, 2)
        places, channels = torch.tensor([[[[0.0, 1], [2, 3]]]]), torch.tensor([[[[1.0]], [[-1]]]])
        found = feature(x, places, channels)
    by_place = x[0] * (1 + places[0])
    by_channel = torch.stack([2 * x[0, 0], 0 * x[0, 1]])
    expected = F.gelu(torch.cat([by_place, by_channel])[None] / (1 + feature.refine[0].eps) ** 0.5)
    torch.testing.assert_close(found, expected)


def test_tasks_are_mixed_by_the_scores_between_their_prompts():
    """Two tasks, one head: w = 2 · GELU(score) + 1, from the row of the task that is made."""
    fusion = PromptFusion(['a', 'b'], 4, 1, 3, 5, True, dict(type='BN')).eval()
    scores = PromptScores(
        torch.tensor([[[[0.5, 1.0], [-1.0, 2.0]]]]), torch.randn(1, 1, 2, 2, 3), torch.randn(1, 2, 4, 1, 1)
    )
    x = torch.randn(1, 4, 2, 3)
    with torch.no_grad():
        for mix in fusion.mixing.values():
            for layer, weight, bias in ((mix[0], 1.0, 0.0), (mix[2], 2.0, 1.0)):
                layer.weight.fill_(weight)
                layer.bias.fill_(bias)
        mixed, fusion.mixing = fusion(x, scores), None
        a, b = fusion(x, scores)
    gelu = F.gelu(scores.prompts[0, 0])
    for t, found in enumerate(mixed):
        torch.testing.assert_close(found, (2 * gelu[t, 0] + 1) * a + (2 * gelu[t, 1] + 1) * b)


# What the backward pass keeps and does not


def test_statistics_move_once_and_no_convolution_runs_twice():
    torch.manual_seed(0)
    branch, x = Branch(6, 2, dict(type='BN')).train(), torch.randn(2, 6, 4, 4, requires_grad=True)
    plain = nn.Sequential(nn.Upsample(scale_factor=4, mode='bilinear'), branch.conv, *branch.output)
    before = {name: buffer.clone() for name, buffer in branch.named_buffers()}
    with FlopCounterMode(display=False) as ours:
        found = branch(x)
        found.square().sum().backward()
    moved, gradient = {name: buffer.clone() for name, buffer in branch.named_buffers()}, x.grad.clone()
    gradients = [p.grad.clone() for p in branch.parameters()]
    for name, buffer in branch.named_buffers():
        buffer.copy_(before[name])
    branch.zero_grad()
    x.grad = None
    with FlopCounterMode(display=False) as theirs:
        expected = plain(x)
        expected.square().sum().backward()
    assert torch.equal(found, expected) and torch.equal(gradient, x.grad)
    assert all(torch.equal(a, p.grad) for a, p in zip(gradients, branch.parameters(), strict=True))
    assert all(torch.equal(buffer, moved[name]) for name, buffer in branch.named_buffers())
    assert int(moved['output.0.num_batches_tracked']) == 1
    assert ours.get_total_flops() == theirs.get_total_flops() > 0


def test_stochastic_depth_is_drawn_for_prompts_and_patches_apart():
    torch.manual_seed(0)
    block = PromptedBlock(8, 2, (2, 2), 16, drop_path=0.25)
    dropped = block.train()._dropped(torch.ones(400, 7, 8), 3)
    prompts, patches = dropped[:, 0, 0], dropped[:, 3, 0]
    assert torch.equal(dropped[:, :3], prompts[:, None, None].expand(-1, 3, 8))
    assert torch.equal(dropped[:, 3:], patches[:, None, None].expand(-1, 4, 8))
    for part in (prompts, patches):
        assert set(part.tolist()) == {0.0, float(torch.tensor(1 / 0.75))} and 0.65 < (part > 0).float().mean() < 0.85
    assert 0.04 < ((prompts == 0) & (patches == 0)).float().mean() < 0.1  # 1/16: neither follows the other
    assert torch.equal(block.eval()._dropped(torch.ones(2, 7, 8), 3), torch.ones(2, 7, 8))
    rates = [block.drop_path for block in built(drop_path_rate=0.15).backbone.blocks]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15])


# Sizes


def test_weights_of_positions_on_another_grid():
    """A ramp stays a ramp; links whose weights are the same everywhere say the same at any size."""
    rows = torch.arange(6.0).repeat(4, 1).flatten()[:, None]  # (24, 1): the column of each position
    enlarged = on_grid(rows, (4, 6), (8, 12)).reshape(8, 12)
    torch.testing.assert_close(enlarged[:, 4:8], (torch.arange(4.0, 8) / 2 - 0.25).expand(8, 4), atol=0.05, rtol=0)
    assert on_grid(rows, (4, 6), (4, 6)) is rows
    link, prompts = GridLink(5, (4, 6)), torch.randn(2, 3, 5)
    with torch.no_grad():
        link.to_grid.weight.copy_(torch.randn(5).expand(24, 5))
        link.to_grid.bias.fill_(0.3)
        link.from_grid.weight.copy_(torch.randn(5)[:, None].expand(5, 24))
    own, other = (link.gathered(link.spread(prompts, grid), grid) for grid in ((4, 6), (8, 9)))
    torch.testing.assert_close(own, other)
    assert link.share((8, 12)) == 0.25


@pytest.mark.parametrize('size', [(64, 96), (96, 64), (50, 70), (33, 129)])
def test_images_of_any_size(size):
    model = built('semantic_segmentation', 'edge').eval()
    maps = model.backbone(images(size))
    assert [tuple(x.shape[1:]) for x in maps] == [(10, -(-size[0] // 16), -(-size[1] // 16))] * 2
    found = model.predict(images(size), samples('edge', size=size))
    assert [tuple(sample.pred_sem_seg.data.shape) for sample in found] == [(1, *size)] * 2
    assert all(sample.pred_edge.data.isfinite().all() for sample in found)
    losses = model.train().loss(images(size), samples(size=size))
    assert all(value.isfinite() for value in losses.values())


def test_padding_is_cut_off_again():
    """An image with zeros below is the image that the backbone pads itself."""
    model = built('edge').eval().backbone
    narrow = images((50, 96))
    whole = F.pad(narrow, (0, 0, 0, 14))
    torch.testing.assert_close(model(narrow)[0], model(whole)[0][:, :, :4])


# As a segmentor


def test_losses_and_predictions():
    model = built().train()
    losses = model.loss(images(), samples())
    assert set(losses) == {f'decode.{name}.loss' for name in TASKS}
    raw = model.decode_head(model.backbone(images()))
    depth, truth = (
        F.interpolate(raw['depth'], SIZE, mode='bilinear'),
        torch.stack([sample.gt_depth_map.data for sample in samples()]),
    )
    known = truth > 0
    torch.testing.assert_close(losses['decode.depth.loss'], (depth - truth).abs()[known].mean())
    edges = model.decode_head.task_weights
    assert edges == dict(semantic_segmentation=1, depth=1, human_parts=2, saliency=5, normal=10, edge=50)
    output = model.eval().encode_decode(images(), [META] * 2)
    parts = TaskSet(TASKS).split(output)
    assert {name: part.shape[1] for name, part in parts.items()} == dict(
        semantic_segmentation=K, depth=1, human_parts=7, saliency=2, normal=3, edge=1
    )
    torch.testing.assert_close(parts['normal'].norm(dim=1), torch.ones(2, *SIZE))
    assert parts['depth'].min() < 0  # no activation: metres as the last layer gives them


def test_a_step_on_a_subset_with_a_missing_label():
    """Adam moves everything; a task without labels has a loss of 0."""
    model = built('saliency', 'depth').train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-6)
    losses = model.loss(images(), samples('depth'))
    assert losses['decode.saliency.loss'] == 0 < losses['decode.depth.loss']
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.parse_losses(losses)[0].backward()
    optimizer.step()
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert all('saliency' in name for name in still)
    assert model.loss(images(), samples('depth'))['decode.depth.loss'] < losses['decode.depth.loss']


def test_weights_of_a_plain_vit(tmp_path):
    """What a ViT has is taken from it, positions resized; prompts, links and fusions stay."""
    model = built('edge')
    own = model.backbone.state_dict()
    state = {
        name: torch.randn_like(tensor)
        for name, tensor in own.items()
        if name.startswith(('patch_embed', 'blocks', 'norm')) and '.link.' not in name
    }
    state |= {'pos_embed': torch.randn(1, 1 + 25, 16), 'cls_token': torch.zeros(1, 1, 16), 'head.weight': torch.ones(3)}
    torch.save(state, tmp_path / 'vit.pth')
    torch.manual_seed(0)
    loaded = MODELS.build(segmentor('edge', pretrained=str(tmp_path / 'vit.pth'))).backbone.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items() if name in loaded)
    expected = F.interpolate(state['pos_embed'][0, 1:].mT.reshape(1, 16, 5, 5), (4, 6), mode='bicubic')[0].flatten(1).mT
    torch.testing.assert_close(loaded['position'], expected)
    del state['blocks.1.attn.qkv.bias']
    torch.save(state | {'blocks.9.norm1.bias': torch.ones(16)}, tmp_path / 'vit.pth')
    with pytest.raises(ValueError, match=r'missing 1: blocks.1.attn.qkv.bias; unexpected 1: blocks.9.norm1.bias'):
        MODELS.build(segmentor('edge', pretrained=str(tmp_path / 'vit.pth')))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(taps=(2, 3)), r'taps=\(2, 3\): expected some of 1 … 4 in rising order, the last one 4'),
        (dict(heads=3), 'width=16 does not divide into heads=3'),
        (dict(img_size=(48, 96)), r'img_size=\(48, 96\): expected multiples of 32'),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(segmentor('edge', **settings))


def test_heads_and_backbone_must_have_the_same_tasks():
    config = segmentor('edge', 'depth')
    config.backbone.tasks = dict(edge=TASKS['edge'])
    with pytest.raises(ValueError, match='gave 1 maps, the head has 2 tasks: edge, depth'):
        MODELS.build(config).eval().encode_decode(images(), [META] * 2)
    with pytest.raises(ValueError, match='task_weights of depth; the tasks are edge'):
        MODELS.build(dict(type='TaskPrompterHead', tasks=dict(edge=TASKS['edge']), task_weights=dict(depth=2.0)))
