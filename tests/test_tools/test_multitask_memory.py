"""tools/multitask_memory.py: the counts in closed form, the goal (half of the formulas' memory), and what docs say."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

sys.path.append(str(Path(__file__).parents[2] / 'tools'))  # at the end: tools/test.py is not the standard library's

import multitask_memory as tool  # noqa: E402
from benchmarks import multitask  # noqa: E402
from benchmarks.estimate import Alive  # noqa: E402
from benchmarks.saved import saved_bytes  # noqa: E402

PAGE = Path(__file__).parents[2] / 'docs' / 'benchmarks' / 'multitask.md'
QUICK = ('InvPT, ViT-B, NYUD-MT',)


def test_the_count():
    """Storages once each, views as the whole they hold, results too; not what a checkpoint computes anew."""
    layer, x = nn.Linear(8, 8), torch.randn(10, 8, requires_grad=True)
    known = [*layer.parameters(), x]
    unit = x.numel() * 4
    assert saved_bytes(lambda: layer(x).sum(), known) == 4  # the result; the layer needs its input alone
    assert saved_bytes(lambda: layer(x).exp().sum(), known) == unit + 4  # exp its output
    assert saved_bytes(lambda: layer(x)[:1].square().sum(), known) == unit + 4  # a row holds all rows
    assert saved_bytes(lambda: [(y := layer(x)).square().sum(), y.square().sum()], known) == unit + 8
    dropped = saved_bytes(lambda: (layer(x).exp().sum(), layer(x).sum())[1], known)
    assert dropped == 4  # a graph that nobody holds is none

    def twice(x):
        return layer(layer(x).exp()).exp()

    assert saved_bytes(lambda: twice(x).sum(), known) == 2 * unit + 4
    assert saved_bytes(lambda: checkpoint(twice, x, use_reentrant=False).sum(), known) == 4


def test_the_peak_on_tensors_without_memory():
    with FakeTensorMode():
        weight = torch.empty(100)
        alive = Alive('cpu')
        alive.add(weight)
        with alive:
            first = weight.t() * 2  # a view of what is known is nothing new
            second = first + 1
            del first
            second * 3
    assert alive.peak == 3 * 400


@pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in multitask.MODELS_AT_FULL_SIZE],
)
def test_half_of_the_memory_of_the_formulas(name):
    """At full size; the table of the docs holds the same numbers (kernels of another torch may keep a little more)."""
    found = {way: multitask.counted(name, way) for way in multitask.ways(name)}
    plain, ours = found[multitask.PLAIN], found[multitask.OURS]
    assert ours.kept <= plain.kept / 2 and ours.peak <= plain.peak / 2
    backbone = multitask.config_of(name).backbone
    tokens = backbone.img_size[0] * backbone.img_size[1] // 256
    scores = 4 * backbone.heads * tokens**2 * backbone.depth / multitask.MIB
    of_prompts = name.startswith('TaskPrompter')
    assert plain.backbone > (2 if of_prompts else 1) * scores  # raw ones besides the shares
    if not of_prompts:
        assert ours.kept - ours.backbone <= (plain.kept - plain.backbone) / 8
        assert found[multitask.VIT_AGAIN].kept <= plain.kept / 12
    for way, needed in found.items():
        row = tool.row(name, way, needed, plain)
        assert numbers(row) == pytest.approx(numbers(written(name, way)), rel=0.02, abs=0.011)


def written(name, way):
    start = f'| {name}: {way} |'
    (line,) = [line for line in PAGE.read_text(encoding='utf-8').splitlines() if line.startswith(start)]
    return line


def numbers(row):
    """The counted ones."""
    cells = [cell.strip().replace(',', '') for cell in row.split('|')[2:-2]]
    return [float(cell) for cell in cells if cell != '–']


def test_a_row():
    plain, ours = multitask.Needed(3000.4, 4000, 5000), multitask.Needed(1000, 1600, 2000)
    assert tool.row('X', 'plain', plain, plain) == '| X: plain | 3,000 | 1,000 | 4,000 | – | 5,000 | – | – |'
    assert tool.row('X', 'ours', ours, plain, 2100) == '| X: ours | 1,000 | 600 | 1,600 | 0.40 | 2,000 | 0.40 | 2,100 |'
