"""Windows over an image: the same as the whole where one window covers it, and their average where several overlap."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from tiny_ade20k import narrow, write_weights

import mmdiff2in1.components  # noqa: F401  registers


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """The published model, narrow; latent cells of 2 pixels, sides are padded to multiples of 8."""
    folder = tmp_path_factory.mktemp('slide')
    cfg = narrow('baselines/vpd_ade20k', folder, write_weights(folder / 'weights'), folder / 'classes.pth')
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval()


def logits(model, images: torch.Tensor, **test_cfg) -> torch.Tensor:
    model.test_cfg.update(test_cfg)
    metas = [dict(ori_shape=images.shape[2:], img_shape=images.shape[2:], pad_shape=images.shape[2:])] * len(images)
    with torch.no_grad():
        return model.inference(images, metas)


@pytest.mark.parametrize('size', [(32, 32), (32, 48), (40, 24), (30, 45)])
def test_a_window_that_covers_the_image_is_the_whole(model, size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = logits(model, images, mode='whole')
    assert whole.shape == (2, 150, *size) and whole.std() > 0
    assert torch.equal(logits(model, images, mode='slide', crop_size=(48, 48), stride=(16, 16)), whole)


def test_overlapping_windows_are_averaged(model):
    """32 × 56 with windows of 32 every 21: at 0, 21 and, moved back, 24."""
    images = torch.rand(1, 3, 32, 56, generator=torch.Generator().manual_seed(2)) * 2 - 1
    total, count = torch.zeros(1, 150, 32, 56), torch.zeros(56)
    for left in (0, 21, 24):
        total[..., left : left + 32] += logits(model, images[..., left : left + 32], mode='whole')
        count[left : left + 32] += 1
    slid = logits(model, images, mode='slide', crop_size=(32, 32), stride=(21, 21))
    torch.testing.assert_close(slid, total / count)


def test_padding_to_the_unets_multiple_does_not_move_the_image(model):
    """30 × 45 pixels are 30 × 45 of the 32 × 48 that the backbone makes by repeating the last row and column."""
    images = torch.rand(1, 3, 30, 45, generator=torch.Generator().manual_seed(3)) * 2 - 1
    padded = torch.nn.functional.pad(images, (0, 3, 0, 2), mode='replicate')
    with torch.no_grad():
        small, large = model.backbone(images), model.backbone(padded)
    for level, (a, b) in enumerate(zip(small, large, strict=True)):
        stride = 2 * 2**level
        assert a.shape[2:] == (-(-30 // stride), -(-45 // stride))
        assert torch.equal(a, b[..., : a.shape[2], : a.shape[3]])
