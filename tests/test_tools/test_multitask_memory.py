"""tools/multitask_memory.py: the count in closed form, and the goal: half of what the formulas keep, or less."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.checkpoint import checkpoint

sys.path.append(str(Path(__file__).parents[2] / 'tools'))  # at the end: tools/test.py is not the standard library's

import multitask_memory as tool  # noqa: E402
from benchmarks.saved import saved_bytes  # noqa: E402

VARIANTS = list(tool.VARIANTS.values())


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


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[] if 'vit-b' in name else pytest.mark.slow) for name in VARIANTS]
)
def test_less_than_half_of_the_formulas(name):
    """At full size; of the scores that the plain writing holds, two full sets in every block, ours has some rows."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        config = tool.published(name)
        found = tool.measured(config)
    backbone = config.backbone
    tokens = backbone.img_size[0] * backbone.img_size[1] // 256 + len(config.task)
    scores = 2 * 4 * backbone.heads * tokens**2 * backbone.depth / tool.MB
    assert found['ours'] < found['plain'] / 2.5 and found['plain'] > scores > 0.3 * found['plain']
    large = 4 * backbone.channels * backbone.img_size[0] * backbone.img_size[1] / 16 / tool.MB
    assert found['again'] == pytest.approx(2 * large)
    # Of each head one large map, its input, and what it gives.
    assert len(config.task) * large < found['heads'] < 1.1 * len(config.task) * large
