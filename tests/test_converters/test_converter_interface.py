"""What all converters share, on one that is defined here: a table, a class, and a door of two lines."""

import re

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mmdiff2in1.converters.bae import Bae
from mmdiff2in1.converters.base import OURS, THEIRS, Converted, Converter, convert, known
from mmdiff2in1.converters.command import command
from mmdiff2in1.converters.rules import Layout, Pointwise, Rule, below, rules
from mmdiff2in1.converters.table_converter import OurModel, TableConverter, module_shapes

LAYOUT = Layout(
    [
        Rule('net.block_@.qkv', ('backbone.blocks.@.q', 'backbone.blocks.@.k', 'backbone.blocks.@.v'), shift=-1),
        Pointwise('net.block_@.out', 'backbone.blocks.@.out', shift=-1),
        *rules({'net.token': 'backbone.token', 'classifier': 'decode_head.linear'}),
    ],
    unused={'of a counter': re.compile(r'net\.steps')},
    key='model',
)


class Toy(TableConverter):
    """Blocks whose query, key and value stand in one matrix in theirs; a norm that theirs lacks begins at `--scale`."""

    whose = 'Toy'
    marks = {'net.': THEIRS, 'backbone.blocks.': OURS}
    parts = {'blocks': ('backbone.',), 'head': ('decode_head.',)}
    arguments = {'--scale': dict(type=float, default=1.0)}

    def __init__(self, scale=1.0):
        self.scale = scale

    def layout(self, names):
        return LAYOUT

    def our_model(self, ours):
        classes, width = ours['decode_head.linear.weight'].shape
        depth = len({name.split('.')[2] for name in ours if name.startswith('backbone.blocks.')})
        with torch.device('meta'):
            blocks = [nn.ModuleDict({n: nn.Linear(width, width) for n in ('q', 'k', 'v', 'out')}) for _ in range(depth)]
            modules = {
                'backbone.blocks': nn.ModuleList(blocks),
                'backbone.token': nn.ParameterDict(dict(first=torch.empty(1, width))),
                'decode_head.linear': nn.Linear(width, classes),
                'decode_head.norm': nn.LayerNorm(width, bias=False),
            }
        added = {'that begin at --scale': {'decode_head.norm.weight': torch.full((width,), self.scale)}}
        return OurModel(dict(depth=depth), module_shapes(modules), added)

    def config_lines(self, settings):
        return f'depth={settings["depth"]}'


main = command(Toy, __doc__)


def theirs(width=4, depth=2, classes=3):
    """A file of theirs, with numbers that are all different."""
    shapes = {'net.token.first': (1, width), 'classifier.weight': (classes, width), 'classifier.bias': (classes,)}
    for i in range(1, depth + 1):
        shapes |= {f'net.block_{i}.qkv.weight': (3 * width, width), f'net.block_{i}.qkv.bias': (3 * width,)}
        shapes |= {f'net.block_{i}.out.weight': (width, width, 1, 1), f'net.block_{i}.out.bias': (width,)}
    state, first = {'net.steps': torch.tensor(9)}, 0
    for name, shape in shapes.items():
        count = torch.Size(shape).numel()
        state[name] = torch.arange(first, first + count).double().reshape(shape)
        first += count
    return state


def written(state, path):
    torch.save(dict(model={f'module._orig_mod.{name}': tensor for name, tensor in state.items()}), path)
    return path


def test_a_file_goes_through_both_directions(tmp_path, capsys):
    state = theirs()
    main([str(written(state, tmp_path / 'toy.pt')), '--out', str(tmp_path / 'ours.safetensors'), '--scale', '2'])
    printed = capsys.readouterr().out
    assert printed == (
        f'{tmp_path}/toy.pt: Toy\n\n'
        'part               tensors        numbers  from\n'
        'blocks                  17            164  CHECKPOINT\n'
        'head                     2             15  CHECKPOINT\n'
        'head                     1              4  added\n\n'
        'moved: 11 tensors of the file; left out, not needed here: 1 tensor of a counter (net.steps); '
        'added: 1 that begin at --scale (decode_head.norm.weight)\n\ndepth=2\n\n'
        f'written: {tmp_path}/ours.safetensors\n'
    )
    ours = load_file(tmp_path / 'ours.safetensors')
    assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
    qkv = state['net.block_2.qkv.weight'].float()
    for i, part in enumerate('qkv'):
        assert torch.equal(ours[f'backbone.blocks.1.{part}.weight'], qkv[4 * i : 4 * i + 4])
    assert torch.equal(ours['backbone.blocks.0.out.weight'], state['net.block_1.out.weight'].float()[:, :, 0, 0])
    assert torch.equal(ours['decode_head.norm.weight'], torch.full((4,), 2.0))

    main([str(tmp_path / 'ours.safetensors'), '--out', str(tmp_path / 'back.pth'), '--to', 'theirs'])
    assert capsys.readouterr().out == (
        f'{tmp_path}/ours.safetensors: Toy\n\n'
        'moved: 19 tensors of the file; left out, not needed here: 1 tensor that begin at --scale '
        '(decode_head.norm.weight)\n\n'
        f'written: {tmp_path}/back.pth\n'
    )
    back = torch.load(tmp_path / 'back.pth', weights_only=True)
    assert list(back) == ['model'] and back['model'].keys() == state.keys() - {'net.steps'}
    assert all(torch.equal(tensor, state[name].float()) for name, tensor in back['model'].items())


def test_every_fault_is_in_the_list(tmp_path):
    state = theirs()
    del state['net.block_1.out.bias']
    state['net.block_2.qkv.bias'] = torch.ones(13)
    state['stranger'] = torch.ones(1)
    expected = (
        'toy.pt: it is not a checkpoint that Toy published: tensors without a place 1: stranger; '
        'missing 1: net.block_1.out.bias; of another shape 1: net.block_2.qkv.bias [13], expected [12]'
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        convert(Toy(), written(state, tmp_path / 'toy.pt'), tmp_path / 'out.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['toy.pt']
    ours = Toy().to_ours(theirs()).state
    ours['backbone.blocks.0.k.bias'] = torch.ones(5)
    ours['stranger'] = ours.pop('backbone.token.first')
    expected = (
        'tensors without a place 1: stranger; missing 1: backbone.token.first; '
        'of another shape 1: backbone.blocks.0.k.bias [5], expected [4]'
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        Toy().to_theirs(ours)
    # What theirs do not hold need not be there.
    ours = Toy().to_ours(theirs()).state
    del ours['decode_head.norm.weight']
    assert Toy().to_theirs(ours).state.keys() == theirs().keys() - {'net.steps'}


def test_two_tensors_of_one_place_are_an_error():
    class Doubled(Toy):
        def layout(self, names):
            return Layout([*LAYOUT.rules, Rule('net.first', 'backbone.token.first')])

    state = theirs() | {'net.first': torch.ones(1, 4)}
    with pytest.raises(ValueError, match=r'of one place 2: net\.token\.first, net\.first'):
        Doubled().to_ours({name: tensor for name, tensor in state.items() if name != 'net.steps'})


class Careless(Converter):
    """Writes its own ways, and forgets."""

    whose = 'Careless'
    marks = {'net.': THEIRS, '': OURS}

    def to_ours(self, state):
        return Converted({'x': torch.ones(1), 'y': torch.ones(1)}, {'net.steps': ('x',)})

    def to_theirs(self, state):
        return Converted({}, {'a': ('net.a',)}, {'of no use': ['a']})


@pytest.mark.parametrize(
    ('to', 'state', 'expected'),
    [
        (OURS, {'net.steps': torch.ones(1), 'net.a': torch.ones(1)}, 'without a place 1: net.a; from nowhere 1: y'),
        (THEIRS, {'a': torch.ones(1)}, 'moved and left out 1: a; lost on the way 1: net.a'),
    ],
)
def test_no_converter_may_lose_a_tensor(tmp_path, to, state, expected):
    torch.save(state, tmp_path / 'some.pth')
    with pytest.raises(ValueError, match=f'some.pth: not every tensor is accounted for: {re.escape(expected)}'):
        convert(Careless(), tmp_path / 'some.pth', tmp_path / 'out.pth', to)


def test_a_file_for_another_tool_is_sent_there(tmp_path):
    assert known().keys() >= {'bae', 'idisc', 'vpd', 'to_mmseg', 'to_diffusers'}
    torch.save({'pixel_encoder.patch_embed.norm.bias': torch.ones(1)}, tmp_path / 'some.pt')
    expected = (
        'is no checkpoint of Bae et al. with point heads; found a checkpoint of iDisc, which '
        'mmdiff2in1 convert idisc converts (pixel_encoder), '
        'expected tensors under decoder.out_conv_res1.0.weight'
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        convert(Bae(), tmp_path / 'some.pt')


def test_rules_are_read_in_order_and_in_whole_parts():
    layout = Layout(
        [
            Rule('a.@.b_@', 'x.@.y.@', shift=2),
            *below(rules({'norm': 'bn'}), 'a.conv.', 'x.conv.'),
            Rule('a.conv', 'x.conv.conv'),
        ]
    )
    for name, place in (
        ('a.1.b_30.weight', 'x.3.y.32.weight'),
        ('a.conv.norm.bias', 'x.conv.bn.bias'),
        ('a.conv.weight', 'x.conv.conv.weight'),
        ('a.conv', 'x.conv.conv'),
    ):
        assert layout.place(name).names == (place,) and layout.theirs(place) == name
    assert layout.place('a.convolution.weight') is layout.place('a.1.c_2') is layout.theirs('x.conv.weight') is None
    # The name that a rule before it leads to is not this rule's: the way back is the way there.
    assert Layout(rules({'a': 'x', 'a.b': 'y'})).theirs('y.c') is None


def test_numbers_apart_and_together():
    fused = torch.arange(12.0).reshape(6, 2)
    rule = Rule('qkv', ('q', 'k', 'v'))
    pieces = rule.apart(fused)
    assert [piece.tolist() for piece in pieces] == [fused[i : i + 2].tolist() for i in (0, 2, 4)]
    assert torch.equal(rule.together(pieces), fused)
    kernel, bias = torch.arange(6.0).reshape(2, 3, 1, 1), torch.ones(2)
    (linear,) = Pointwise('c', 'l').apart(kernel)
    assert linear.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert torch.equal(Pointwise('c', 'l').together([linear]), kernel)
    assert Pointwise('c', 'l').apart(bias) == (bias,) and Pointwise('c', 'l').together([bias]) is bias
