"""Training steps under bfloat16 autocast on any device."""

import torch
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmdiff2in1.engine import BF16OptimWrapper


class Linear(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, inputs, mode='loss'):
        self.seen = self.layer(inputs)
        return dict(loss=self.seen.float().square().mean())


def test_a_step_is_that_of_autocast_by_hand():
    torch.manual_seed(0)
    model = Linear()
    before, inputs = {name: value.clone() for name, value in model.layer.state_dict().items()}, torch.randn(3, 8)
    wrapper = build_optim_wrapper(model, dict(type='BF16OptimWrapper', optimizer=dict(type='SGD', lr=0.5)))
    assert type(wrapper) is BF16OptimWrapper
    model.train_step(dict(inputs=inputs), wrapper)
    assert model.seen.dtype == torch.bfloat16 and model.layer.weight.dtype == torch.float32

    by_hand = nn.Linear(8, 4)
    by_hand.load_state_dict(before)
    with torch.autocast('cpu', torch.bfloat16):
        outputs = by_hand(inputs)
    outputs.float().square().mean().backward()
    assert torch.equal(outputs, model.seen)
    for name, parameter in by_hand.named_parameters():
        stepped = before[name] - 0.5 * parameter.grad
        torch.testing.assert_close(model.layer.state_dict()[name], stepped, atol=1e-7, rtol=0)


def test_outside_of_a_step_nothing_changes():
    model = Linear()
    build_optim_wrapper(model, dict(type='BF16OptimWrapper', optimizer=dict(type='SGD', lr=0.5)))
    assert model.layer(torch.randn(3, 8)).dtype == torch.float32
