"""tools/model_converters/invpt.py: names of the published size both ways, numbers against InvPT written out plainly."""

import importlib.util
import math
from pathlib import Path

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
import torch.nn.functional as F
from invpt_reference import NYUD, PASCAL, WITHOUT_EFFECT, Reference, published, published_shapes
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from tiny_invpt import SIZES, THEIRS

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.converters.base import convert
from mmdiff2in1.converters.invpt import NO_EFFECT, OTHER_TASKS, TASKS, InvPT
from mmdiff2in1.models.checkpoints import load_weights

ROOT = Path(__file__).parents[2]
SIZE = (64, 128)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def segmentor(settings):
    tasks = settings['head']['tasks']
    return MODELS.build(
        dict(
            type='DenseEstimator',
            task=tasks,
            backbone=dict(type='ViTLevels', **settings['backbone']),
            decode_head=dict(type='InvPTHead', **settings['head']),
            test_cfg=dict(mode='whole'),
        )
    ).eval()


def dead(name):
    return any(part in name for part in WITHOUT_EFFECT)


def tiny(tasks=THEIRS):
    return published(tasks, positions=1 + 32, **SIZES)


@pytest.mark.parametrize(
    ('tasks', 'positions', 'grid', 'total', 'without_effect'),
    [(NYUD, 1009, (448, 576), 402_092_888, 6_639_562), (PASCAL, 1025, (512, 512), 422_929_810, 6_972_202)],
    ids=['nyud', 'pascal'],
)
def test_names_and_shapes_of_the_published_size_go_there_and_back(tasks, positions, grid, total, without_effect):
    shapes = published_shapes(tasks, positions=positions)
    assert len(shapes) == {4: 654, 5: 727}[len(tasks)]
    numbers = {n: math.prod(s) for n, s in shapes.items() if 'running_' not in n and 'num_batches' not in n}
    assert sum(numbers.values()) == total
    assert sum(count for name, count in numbers.items() if dead(name)) == without_effect
    ours = InvPT().to_ours({name: torch.empty(shape, device='meta') for name, shape in shapes.items()})
    assert ours.settings['backbone']['img_size'] == grid
    assert ours.settings['head'] | dict(tasks=None) == dict(
        tasks=None, in_channels=[1024] * 3, channels=512, widths=[576, 288, 144]
    )
    with torch.device('meta'):
        model = segmentor(ours.settings)
    assert {name: tensor.shape for name, tensor in ours.state.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    # 395,453,326 and 415,957,608
    assert sum(parameter.numel() for parameter in model.parameters()) == total - without_effect
    assert sorted(ours.left_out[NO_EFFECT]) == sorted(name for name in shapes if dead(name))
    back = InvPT().to_theirs(ours.state)
    assert {name: tuple(tensor.shape) for name, tensor in back.state.items()} == shapes
    assert sorted(back.added[NO_EFFECT]) == sorted(ours.left_out[NO_EFFECT])


@pytest.mark.parametrize('tasks', [('semseg', 'depth', 'normals', 'edge'), tuple(THEIRS)])
def test_the_converted_model_computes_what_invpt_computes(tmp_path, tasks):
    state = tiny({task: THEIRS[task] for task in tasks})
    torch.save({'model': {f'module.{name}': value for name, value in state.items()}, 'epoch': 3}, tmp_path / 'a.pth')
    converted = convert(InvPT(), tmp_path / 'a.pth')
    converted.settings['backbone']['img_size'] = SIZE  # 4 × 8 patches are seen as 1 × 32
    model = segmentor(converted.settings)
    model.load_state_dict(converted.state)
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    reference = Reference(state, tasks)
    with torch.no_grad():
        found = model.tasks.split(model.encode_decode(images, [dict(img_shape=SIZE)] * 2))
        expected = reference.decoder(reference.backbone(images, heads=1, depth=4))
    for task in tasks:
        full = F.interpolate(expected[task][0], SIZE, mode='bilinear', align_corners=False)
        assert full.std() > 0.03
        full = F.normalize(full, dim=1) if task == 'normals' else full
        torch.testing.assert_close(found[TASKS[task]], full, atol=1e-4, rtol=1e-4)


def test_a_tensor_comes_back_as_it_was(tmp_path):
    state = tiny()
    converted = InvPT().to_ours(state)
    back = InvPT().to_theirs(converted.state).state
    assert back.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(back[name], torch.zeros_like(value) if dead(name) else value), name


def test_some_of_the_tasks():
    """Norms over the channels of all tasks are sliced, what is counted by position is counted anew."""
    state, kept = tiny(), ['depth', 'normal']  # the second and the fifth of six
    ours = InvPT(tasks='depth,normal').to_ours(state)
    assert list(ours.settings['head']['tasks']) == kept
    joint = state['multi_task_decoder.invpt.norm_mts.1.weight']
    assert torch.equal(ours.state['decode_head.norms.1.weights.normal'], joint[4 * 8 : 5 * 8])
    fifth = state['multi_task_decoder.invpt.invpt_stages.2.blocks.0.attn.conv_proj_q.4.conv.weight']
    assert torch.equal(ours.state['decode_head.stages.2.attention.query_convs.normal.0.weight'], fifth)
    left = set(ours.left_out[OTHER_TASKS])
    assert {'heads.edge.linear_pred.bias', 'multi_task_decoder.invpt.redu_chan.2.0.bias'} <= left
    assert not any('backbone' in name or '.depth.' in name for name in left)
    back = InvPT().to_theirs(ours.state).state
    assert {n: tuple(t.shape) for n, t in back.items()} == published_shapes(
        dict(depth=1, normals=3), positions=33, **SIZES
    )
    assert torch.equal(back['multi_task_decoder.invpt.norm_mts.1.weight'], torch.cat([joint[8:16], joint[32:40]]))
    assert torch.equal(back['multi_task_decoder.invpt.invpt_stages.2.blocks.0.attn.conv_proj_q.1.conv.weight'], fifth)


def test_the_tool_writes_a_checkpoint_that_loads(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location('invpt', ROOT / 'tools' / 'model_converters' / 'invpt.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    state = published(dict(depth=1, normals=3), positions=17, **SIZES)
    torch.save({'model': {f'module.{name}': value for name, value in state.items()}}, tmp_path / 'a.pth')
    tool.main([str(tmp_path / 'a.pth'), '--out', str(tmp_path / 'ours.safetensors')])
    printed = capsys.readouterr().out
    assert 'InvPT, depth, normal' in printed and f'left out, not needed here: 10 tensors {NO_EFFECT}' in printed
    assert "dict(type='ViTLevels', img_size=(64, 64), width=64, depth=4, heads=1, patch=16)" in printed
    assert 'in_channels=[64, 64, 64], channels=10, widths=[12, 8, 4])' in printed
    converted = convert(InvPT(), tmp_path / 'a.pth')
    load_weights(segmentor(converted.settings), tmp_path / 'ours.safetensors')
    tool.main([str(tmp_path / 'ours.safetensors'), '--out', str(tmp_path / 'back.pth'), '--to', 'theirs'])
    back = torch.load(tmp_path / 'back.pth', weights_only=True)
    assert list(back) == ['model'] and back['model'].keys() == state.keys()


def test_what_does_not_fit_is_named(tmp_path):
    state = tiny()
    with pytest.raises(ValueError, match='unknown tasks colour; known: semantic_segmentation, depth'):
        InvPT(tasks=['colour'])
    with pytest.raises(ValueError, match='it has no edge; its tasks are depth, normal'):
        InvPT(tasks=['edge']).to_ours(published(dict(depth=1, normals=3), positions=17, **SIZES))
    del state['multi_task_decoder.scale_embed.1.bias']
    state['stranger'] = torch.ones(1)
    with pytest.raises(ValueError, match=r'without a place 1: stranger; missing 1: multi_task_decoder.scale_embed.1.b'):
        InvPT().to_ours(state)
    torch.save({'backbone.task_prompts': torch.ones(1)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='is no checkpoint of InvPT'):
        convert(InvPT(), tmp_path / 'other.pth')
