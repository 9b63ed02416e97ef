"""Convolutions on channels-last memory."""

import pytest
import torch
from mmcv.cnn.bricks import ConvAWS2d, ConvWS2d
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmdiff2in1.engine import ChannelsLastHook


class Convolutions(BaseModel):
    def __init__(self, second=nn.Conv2d):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), second(8, 4, 3))
        self.linear = nn.Linear(4, 2)
        self.layouts = set()

    def forward(self, inputs, mode='loss'):
        maps = self.layers(inputs)
        self.layouts.add(maps.is_contiguous(memory_format=torch.channels_last))
        return dict(loss=self.linear(maps.mean((2, 3))).square().mean())


def trained(work_dir, hooks, second=nn.Conv2d):
    torch.manual_seed(0)
    images = [dict(inputs=image) for image in torch.randn(8, 3, 8, 8)]
    model = Convolutions(second)
    Runner(
        model,
        str(work_dir),
        train_dataloader=DataLoader(images, 4),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        custom_hooks=hooks,
        experiment_name=work_dir.name,
    ).train()
    return model


def test_the_same_training_on_another_layout(tmp_path):
    plain, last = trained(tmp_path / 'plain', []), trained(tmp_path / 'last', [ChannelsLastHook()])
    assert plain.layouts == {False} and last.layouts == {True}
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(last.state_dict()[name], value, atol=1e-5, rtol=0)
    saved = torch.load(tmp_path / 'last' / 'epoch_3.pth', weights_only=False)['state_dict']
    fresh = Convolutions()
    fresh.load_state_dict(saved)
    assert fresh.layers[0].weight.is_contiguous()


@pytest.mark.parametrize('second', [ConvWS2d, ConvAWS2d])
def test_weights_that_are_standardised_keep_their_layout(second, tmp_path):
    plain = trained(tmp_path / 'plain', [], second)
    last = trained(tmp_path / 'last', [ChannelsLastHook()], second)
    assert not last.layers[0].weight.is_contiguous() and last.layers[2].weight.is_contiguous()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(last.state_dict()[name], value, atol=1e-5, rtol=0)
