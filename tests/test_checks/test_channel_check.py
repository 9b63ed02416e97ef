"""A neck or head built for other maps than the backbone gives is told before the first step."""

import contextlib

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.checks.channels import check_channels, check_channels_by_forward


def vpd_scenes(**changes):
    cfg = Config.fromfile('configs/diff2in1/vpd_scenes.py')
    cfg.merge_from_dict(changes)
    return cfg.model


def test_own_classes_change_the_channels():
    """As the README says: classes, the neck's channels, and the head's classes."""
    init_default_scope('mmseg')
    classes = {'model.segmentor.backbone.classes': ('floor', 'water', 'sky')}
    check_channels(MODELS.build(vpd_scenes()))
    with pytest.raises(ValueError, match=r'neck.in_channels is \[32, 64, 107, 139\], but .* \[32, 64, 99, 131\]'):
        check_channels(MODELS.build(vpd_scenes(**classes).segmentor))
    neck = {'model.segmentor.neck.in_channels': [32, 64, 96 + 3, 128 + 3]}
    check_channels(MODELS.build(vpd_scenes(**classes, **neck)))


class Model(nn.Module):
    def __init__(self, given, wanted, index=None, neck=False):
        super().__init__()
        self.backbone, self.decode_head, reader = nn.Module(), nn.Module(), nn.Module()
        self.backbone.out_channels = given
        reader.in_channels = wanted
        if index is not None:
            reader.in_index = index
        if neck:
            self.neck = reader
        else:
            self.decode_head = reader


@pytest.mark.parametrize(
    'model',
    [
        Model([8, 16], [8, 16]), Model([8, 16, 32], [32, 8], [2, 0]), Model([8, 16], [16], [-1]), Model([8, 16], 16, 1),
        Model(16, [16]), Model([8, 16], [8, 16], neck=True),
    ],
)  # fmt: skip
def test_what_fits_or_cannot_be_told(model):
    check_channels(model)


@pytest.mark.parametrize(
    'model, found',
    [
        (Model([8, 16], [8, 17]), r'decode_head.in_channels is \[8, 17\], but the backbone gives \[8, 16\]'),
        (Model([8, 16], [8, 16, 32], neck=True), r'neck.in_channels is \[8, 16, 32\], but .* gives \[8, 16, None\]'),
        (Model([8, 16, 32], [8, 16]), r'is \[8, 16\], but the backbone gives \[8, 16, 32\]'),
        (Model([8, 16], [8, 32], [0, 2]), r'is \[8, 32\], but the backbone gives \[8, None\]'),
    ],
)
def test_what_does_not_fit(model, found):
    with pytest.raises(ValueError, match=found):
        check_channels(model)


class Gives(nn.Module):
    """Maps of these channels, whatever it is shown; says nothing of them."""

    def __init__(self, *channels, wanted=None):
        super().__init__()
        self.channels = channels
        if wanted is not None:
            self.in_channels = wanted

    def forward(self, _):
        return [torch.zeros(1, each, 2, 2) for each in self.channels]


@pytest.mark.parametrize(
    'wanted, index, found',
    [
        ([8, 16], [0, 1], None),
        (16, 1, None),
        (24, [0, 1], None),
        ([8, 17], [0, 1], r'decode_head.in_channels is \[8, 17\], but the backbone gives \[8, 16\]'),
        (8, 1, r'decode_head.in_channels is 8, but the backbone gives 16: set'),
        (25, [0, 1], r'decode_head.in_channels is 25, but the backbone gives \[8, 16\]'),
    ],
)
def test_what_a_backbone_of_others_gives(wanted, index, found):
    model = Model([], wanted, index)
    model.backbone = Gives(8, 16)
    with pytest.raises(ValueError, match=found) if found else contextlib.nullcontext():
        check_channels_by_forward(model, torch.zeros(1, 3, 4, 4))


def test_what_a_neck_of_others_gives():
    model = Model([], [4, 5])
    model.backbone, model.neck = Gives(8, 16), Gives(4, 4, wanted=[8, 16])
    with pytest.raises(ValueError, match=r'decode_head.in_channels is \[4, 5\], but the neck gives \[4, 4\]'):
        check_channels_by_forward(model, torch.zeros(1, 3, 4, 4))
    model.neck = Gives(4, 4, wanted=[8, 17])
    with pytest.raises(ValueError, match=r'neck.in_channels is \[8, 17\], but the backbone gives \[8, 16\]'):
        check_channels_by_forward(model, torch.zeros(1, 3, 4, 4))
