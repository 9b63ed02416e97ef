"""The scale-invariant logarithmic loss against its formula, its gradient against finite differences."""

import numpy as np
import pytest
import torch
from mmseg.models.losses import SiLogLoss
from mmseg.registry import MODELS

from mmdiff2in1.models.losses.scale_invariant_log import ScaleInvariantLogLoss


def maps(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(3, 1, 4, 5, generator=generator, dtype=dtype) * 9 + 0.5
    pred = target * (torch.randn(target.shape, generator=generator, dtype=dtype) * 0.3 + 0.2).exp()
    target[torch.rand(target.shape, generator=generator) > 0.6] = 0
    return pred, target


def reference(pred, target, focus):
    valid = target > 0
    d = np.log(target[valid]) - np.log(pred[valid])
    return np.sqrt((d**2).mean() - focus * d.mean() ** 2)


@pytest.mark.parametrize('focus', (0, 0.5, 0.85, 1))
def test_over_the_pixels_of_the_batch_and_image_by_image(focus):
    pred, target = maps()
    of_batch = ScaleInvariantLogLoss(variance_focus=focus)(pred, target)
    assert of_batch.item() == pytest.approx(reference(pred.numpy(), target.numpy(), focus), rel=1e-12)
    of_images = ScaleInvariantLogLoss(loss_weight=3, variance_focus=focus, per_image=True)(pred, target)
    each = [reference(p, t, focus) for p, t in zip(pred.numpy(), target.numpy(), strict=True)]
    assert of_images.item() == pytest.approx(3 * np.mean(each), rel=1e-12)
    assert of_batch.item() != pytest.approx(np.mean(each), rel=1e-3)


def test_image_by_image_is_the_loss_of_mmseg():
    pred, target = maps(dtype=torch.float32)
    found = ScaleInvariantLogLoss(per_image=True)(pred, target)
    assert found.item() == pytest.approx(SiLogLoss()(pred, target).item(), rel=1e-5)


def test_a_global_scale_costs_nothing_with_full_focus_and_its_logarithm_without():
    target = maps()[1]
    assert ScaleInvariantLogLoss(variance_focus=1)(target * 2, target).item() == pytest.approx(0, abs=1e-12)
    assert ScaleInvariantLogLoss(variance_focus=0)(target * 2, target).item() == pytest.approx(np.log(2))


@pytest.mark.parametrize('per_image', (False, True))
def test_gradient(per_image):
    pred, target = maps()
    loss = ScaleInvariantLogLoss(per_image=per_image)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), pred.requires_grad_())


@pytest.mark.parametrize('per_image', (False, True))
def test_no_error_has_no_gradient_where_mmseg_gives_nan(per_image):
    target = maps(dtype=torch.float32)[1]
    pred = torch.where(target > 0, target, 1).requires_grad_()
    SiLogLoss()(pred, target).backward()
    assert pred.grad.isnan().any()
    pred.grad = None
    loss = ScaleInvariantLogLoss(per_image=per_image)(pred, target)
    loss.backward()
    assert loss.item() == 0 and not pred.grad.any()


def test_a_small_error_has_a_gradient_of_the_usual_size():
    target = torch.ones(1, 1, 2, 2)
    pred = torch.tensor([1 + 1e-5, 1, 1, 1]).reshape(1, 1, 2, 2).requires_grad_()
    ScaleInvariantLogLoss(variance_focus=0)(pred, target).backward()
    assert pred.grad.flatten().tolist() == pytest.approx([0.5, 0, 0, 0], rel=1e-3, abs=1e-7)


@pytest.mark.parametrize('per_image', (False, True))
def test_without_a_valid_pixel_it_is_zero_with_a_graph(per_image):
    pred = torch.full((2, 1, 7), torch.nan, requires_grad=True)
    loss = ScaleInvariantLogLoss(per_image=per_image)(pred, torch.zeros(2, 1, 7))
    loss.backward()
    assert loss.item() == 0 and pred.grad.tolist() == torch.zeros(2, 1, 7).tolist()


def test_an_image_without_a_valid_pixel_does_not_count():
    pred, target = maps()
    target[1] = 0
    loss = ScaleInvariantLogLoss(per_image=True)
    assert loss(pred, target).item() == pytest.approx(loss(pred[::2], target[::2]).item(), rel=1e-12)


def test_sampled_points_and_half_precision():
    pred, target = maps()
    loss = MODELS.build(dict(type='ScaleInvariantLogLoss'))
    assert loss(pred.flatten(2), target.flatten(2)).item() == loss(pred, target).item()
    half = loss(pred.half(), target.half())
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(loss(pred.half().double(), target.half().double()).item(), rel=1e-5)
    zero = torch.zeros(1, 1, 2, requires_grad=True)
    assert loss(zero, torch.ones(1, 1, 2)).isfinite() and loss.loss_name == 'loss_silog'


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r'pred is \(1, 1, 2, 2\), target \(1, 2, 2\)'):
        ScaleInvariantLogLoss()(torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match='variance_focus=2'):
        ScaleInvariantLogLoss(variance_focus=2)
    with pytest.raises(ValueError, match='eps=0'):
        ScaleInvariantLogLoss(eps=0)
