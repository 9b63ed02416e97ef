"""tools/model_converters/taskprompter.py: names of the published sizes, and numbers on them, both ways."""

import importlib.util
from pathlib import Path

import mmseg.models  # noqa: F401  registers mmseg's parts
import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from tiny_taskprompter import OUTPUTS, published, published_shapes

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.converters.base import convert
from mmdiff2in1.converters.table_converter import module_shapes
from mmdiff2in1.converters.taskprompter import TASKS, TaskPrompter
from mmdiff2in1.models.checkpoints import load_weights

from benchmarks.plain_taskprompter import Setup, forward  # isort: skip

ROOT = Path(__file__).parents[2]
NYUD = dict(semseg=40, depth=1, normals=3, edge=1)
PASCAL = dict(semseg=21, human_parts=7, sal=2, normals=3, edge=1)
PUBLISHED = dict(
    nyud_l=(dict(outputs=NYUD, width=1024, depth=24, positions=1008, embed=768, channels=768), 666, 513_505_709),
    pascal_l=(
        dict(outputs=PASCAL, width=1024, depth=24, positions=1024, embed=300, channels=350, heads=16),
        815,
        401_104_864,
    ),
    pascal_b=(
        dict(outputs=PASCAL, width=768, depth=12, positions=1024, embed=780, channels=1024, heads=12),
        623,
        418_332_214,
    ),
)
SETTINGS = dict(
    nyud_l=dict(img_size=(448, 576), heads=16, taps=(6, 12, 18, 24), channel_windows=4, reweighted=False),
    pascal_l=dict(img_size=(512, 512), heads=16, taps=(6, 12, 18, 24), channel_windows=1, reweighted=True),
    pascal_b=dict(img_size=(512, 512), heads=12, taps=(3, 6, 9, 12), channel_windows=4, reweighted=True),
)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def tool():
    spec = importlib.util.spec_from_file_location(
        'taskprompter', ROOT / 'tools' / 'model_converters' / 'taskprompter.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def segmentor(settings, **backbone):
    tasks = settings['tasks']
    return MODELS.build(
        dict(
            type='DenseEstimator',
            task=tasks,
            backbone=dict(type='TaskPrompterViT', tasks=tasks, **settings['backbone'] | backbone),
            decode_head=dict(type='TaskPrompterHead', tasks=tasks, **settings['head']),
            test_cfg=dict(mode='whole'),
        )
    ).eval()


@pytest.mark.parametrize('name', PUBLISHED)
def test_every_tensor_of_the_published_size_has_a_place(name):
    """On tensors without memory, there and back; ours is what their names say, less what has no effect."""
    sizes, count, numbers = PUBLISHED[name]
    shapes = published_shapes(**sizes)
    assert len(shapes) == count
    theirs = {key: torch.empty(shape, device='meta') for key, shape in shapes.items()}
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    assert sum(tensor.numel() for key, tensor in theirs.items() if not key.endswith(statistics)) == numbers
    converted = TaskPrompter().to_ours(theirs)
    assert {key: converted.settings['backbone'][key] for key in SETTINGS[name]} == SETTINGS[name]
    assert [task['type'] for task in converted.settings['tasks'].values()] == [
        dict(semseg='SemanticSegmentation', depth='Depth', human_parts='HumanParts', sal='Saliency',
             normals='SurfaceNormal', edge='Edges')[task] for task in sizes['outputs']
    ]  # fmt: skip
    with torch.device('meta'):
        model = segmentor(converted.settings)
    found = {key: tuple(tensor.shape) for key, tensor in converted.state.items()}
    assert found == module_shapes({'backbone': model.backbone, 'decode_head': model.decode_head})
    dead = sizes['width'] * (sizes['positions'] + 1) + sizes['width']  # W2 of the last block, and one position
    assert sum(parameter.numel() for parameter in model.parameters()) == numbers - dead
    back = TaskPrompter().to_theirs(converted.state)
    assert {key: tuple(tensor.shape) for key, tensor in back.state.items()} == shapes
    assert [len(names) for names in converted.left_out.values()] == [len(names) for names in back.added.values()] == [2]


@pytest.mark.parametrize('heads', [None, 2])
def test_a_file_gives_the_outputs_of_the_formulas(heads, tmp_path, capsys):
    """From file to file, as the command does it: the segmentor of the printed settings predicts what theirs does."""
    state = published(heads=heads)
    torch.save(
        dict(model={f'module.{name}': tensor for name, tensor in state.items()}, epoch=3, iter_count=40000),
        tmp_path / 'theirs.pth.tar',
    )
    tool().main([str(tmp_path / 'theirs.pth.tar'), '--out', str(tmp_path / 'ours.safetensors')])
    printed = capsys.readouterr().out
    assert (
        'left out, not needed here: 2 tensors of the last block, which nothing reads (backbone.blocks.3.attn.'
        in printed
    )
    assert 'TaskPrompter, semantic_segmentation, depth, human_parts, saliency, normal, edge' in printed
    assert 'channel_windows is not seen from the tensors' in printed
    settings = convert(TaskPrompter(), tmp_path / 'theirs.pth.tar').settings
    model = segmentor(settings, channel_windows=3)
    load_weights(model, tmp_path / 'ours.safetensors')
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(5))
    expected, _ = forward(state, images, Setup([*OUTPUTS], 2, (2, 4), 3))
    meta = dict(img_shape=(96, 96), ori_shape=(96, 96), pad_shape=(96, 96))
    with torch.no_grad():
        found = model.tasks.split(model.encode_decode(images, [meta]))
    for name, output in expected.items():
        output = torch.nn.functional.normalize(output, dim=1) if name == 'normals' else output
        torch.testing.assert_close(found[TASKS[name]], output, rtol=1e-4, atol=1e-4)

    tool().main([str(tmp_path / 'ours.safetensors'), '--out', str(tmp_path / 'back.pth'), '--to', 'theirs'])
    back = torch.load(tmp_path / 'back.pth', weights_only=True)['model']
    assert back.keys() == state.keys()
    for name, tensor in back.items():
        expected = state[name].clone()
        if name.startswith('backbone.blocks.3.attn.token_trans1'):
            expected.zero_()
        if name == 'backbone.pos_embed':
            expected[0, 0] = 0
        assert torch.equal(tensor, expected), name


def test_some_of_the_tasks(tmp_path):
    """Rows of the prompts and modules of the tasks that are asked for; the rest is named as left out."""
    state = published(heads=2)
    torch.save(dict(model=state), tmp_path / 'theirs.pth')
    whole, some = TaskPrompter().to_ours(state), convert(TaskPrompter('edge,depth'), tmp_path / 'theirs.pth')
    assert list(some.settings['tasks']) == ['depth', 'edge']  # in their order
    assert torch.equal(some.state['backbone.prompts.depth'], state['backbone.task_prompts'][1:2])
    assert torch.equal(some.state['backbone.prompts.edge'], state['backbone.task_prompts'][5:])
    assert all(torch.equal(tensor, whole.state[name]) for name, tensor in some.state.items())
    others = ('semantic_segmentation', 'human_parts', 'saliency', 'normal')
    assert whole.state.keys() - some.state.keys() == {n for n in whole.state if set(n.split('.')) & set(others)}
    of_tasks = some.left_out['of tasks that are left out']
    assert len(of_tasks) == 4 * (2 * 19 + 9) and 'heads.sal.linear_pred.bias' in of_tasks
    segmentor(some.settings).load_state_dict(some.state)
    small = TaskPrompter().to_theirs(some.state).state
    assert small['backbone.task_prompts'].tolist() == state['backbone.task_prompts'][[1, 5]].tolist()
    again = TaskPrompter().to_ours(small).state
    assert again.keys() == some.state.keys() and all(torch.equal(again[n], some.state[n]) for n in again)


def test_files_that_sort_their_names():
    """safetensors does: the order of the tasks is not that of the names."""
    state = published()
    shuffled = dict(sorted(TaskPrompter().to_ours(state).state.items()))
    back = TaskPrompter().to_theirs(shuffled).state
    assert torch.equal(back['backbone.task_prompts'], state['backbone.task_prompts'])


def without(name):
    state = published()
    del state[name]
    return state


@pytest.mark.parametrize(
    ('settings', 'state', 'message'),
    [
        (dict(tasks='edge,colour'), published(), 'unknown tasks colour; known: semantic_segmentation, depth'),
        (dict(tasks='saliency'), published(dict(depth=1, edge=1)), 'it has no saliency; its tasks are depth, edge'),
        (dict(size=(448, 576)), published(), '--size 448 576 has 1008 patches, it has 36 positions'),
        (dict(), without('heads.sal.linear_pred.bias'), 'missing 1: heads.sal.linear_pred.bias'),
        (dict(), without('backbone.task_prompts'), 'tensors missing 1: backbone.task_prompts'),
        (dict(), published(OUTPUTS | dict(human_parts=8)), r'heads.human_parts.linear_pred.weight \[8, 10, 1, 1\]'),
        (dict(), published() | {'backbone.blocks.9.norm3.bias': torch.ones(1)}, 'without a place'),
    ],
)
def test_what_does_not_fit_is_named(settings, state, message):
    with pytest.raises(ValueError, match=message):
        TaskPrompter(**settings).to_ours(state)


def test_a_checkpoint_of_another_kind(tmp_path):
    torch.save(
        {'backbone.layers.0.norm.bias': torch.ones(1), 'backbone.task_prompts': torch.ones(1)}, tmp_path / 'a.pth'
    )
    with pytest.raises(ValueError, match='found TaskPrompter on a Swin transformer'):
        convert(TaskPrompter(), tmp_path / 'a.pth')
