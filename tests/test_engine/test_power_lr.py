"""PowerLR: closed form up, down and afterwards; a resumed one goes on; what is refused. n = 8 steps each way."""

import mmseg.engine  # noqa: F401  registers
import pytest
import torch
from mmseg.registry import PARAM_SCHEDULERS

import mmdiff2in1.engine  # noqa: F401  registers

UP = dict(type='PowerLR', power=0.9, start_ratio=0.1, end_ratio=1.0, begin=0, end=8, by_epoch=False)
DOWN = dict(type='PowerLR', power=0.9, start_ratio=1.0, end_ratio=0.1, begin=8, end=16, by_epoch=False)


def built(*configs):
    optimizer = torch.optim.SGD([dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=lr) for lr in (1.0, 0.01)])
    return optimizer, [PARAM_SCHEDULERS.build(dict(config, optimizer=optimizer)) for config in configs]


def step(optimizer, schedulers):
    optimizer.step()
    for scheduler in schedulers:
        scheduler.step()


def test_up_and_down_and_flat():
    optimizer, schedulers = built(UP, DOWN)
    for i in range(1, 21):
        up, down = 0.1 + 0.9 * (min(i, 8) / 8) ** 0.9, 1 - 0.9 * (min(max(i - 8, 0), 8) / 8) ** 0.9
        expected = up if i <= 8 else down
        assert [group['lr'] for group in optimizer.param_groups] == pytest.approx([expected, expected / 100]), i
        step(optimizer, schedulers)


@pytest.mark.parametrize('stop', [3, 8, 12])
def test_a_resumed_one_goes_on(stop):
    whole, schedulers = built(UP, DOWN)
    for _ in range(stop):
        step(whole, schedulers)
    resumed, others = built(UP, DOWN)
    resumed.load_state_dict(whole.state_dict())
    for one, other in zip(schedulers, others, strict=True):
        other.load_state_dict(one.state_dict())
    for _ in range(10):
        step(whole, schedulers)
        step(resumed, others)
        assert resumed.param_groups[1]['lr'] == whole.param_groups[1]['lr']


@pytest.mark.parametrize('change', [dict(power=0), dict(start_ratio=-1), dict(end=0), dict(begin=9)])
def test_refusals(change):
    with pytest.raises(ValueError, match='expected a power above 0, ratios of at least 0, and an `end` behind `begin`'):
        built(UP | change)
