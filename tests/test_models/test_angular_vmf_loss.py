"""The losses of surface normals against closed forms and a slow float64 reference.

μ predicted, n true, κ concentration, θ the angle between μ and n in radians.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmdiff2in1.models.losses.angular_vmf import AngularVMFLoss
from mmdiff2in1.models.losses.cosine_normal import CosineNormalLoss


def reference(theta, kappa):
    """−log p without log 2π, in float64, by the formula as it stands (κ small enough for it)."""
    return -np.log(kappa**2 + 1) + kappa * theta + np.log(1 + np.exp(-kappa * math.pi))


def slow_mean(pred, target, drop=0.999):
    """Pixel by pixel."""
    pred, target, losses = pred.double().numpy(), target.double().numpy(), []
    for b, *place in np.ndindex(pred.shape[0], *pred.shape[2:]):
        vector, kappa = pred[(b, slice(0, 3), *place)], pred[(b, 3, *place)]
        n = target[(b, slice(None), *place)]
        if not n.any():
            continue
        cosine = vector @ n / np.linalg.norm(vector) / np.linalg.norm(n)
        if drop is None or abs(cosine) < drop:
            losses.append(reference(math.acos(min(1.0, max(-1.0, cosine))), kappa))
    return np.mean(losses)


def batch(*shape, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    vectors = torch.randn(2, 3, *shape, generator=g, dtype=torch.float64)
    kappa = torch.rand(2, 1, *shape, generator=g, dtype=torch.float64) * 20 + 0.01
    target = F.normalize(torch.randn(2, 3, *shape, generator=g, dtype=torch.float64), dim=1)
    target = target * (torch.rand(2, 1, *shape, generator=g) > 0.3)
    target[..., :2] = F.normalize(vectors[..., :2], dim=1)  # exactly aligned
    target[..., 2:3] = -F.normalize(vectors[..., 2:3], dim=1)
    return torch.cat([vectors, kappa], 1).to(dtype), target.to(dtype)


def at_angle(theta, kappa, dtype=torch.float64):
    """One pixel with this angle between μ and n."""
    pred = torch.tensor([math.sin(theta), 0, math.cos(theta), kappa], dtype=dtype).view(1, 4, 1)
    return pred.requires_grad_(), torch.tensor([0, 0, 1], dtype=dtype).view(1, 3, 1)


@pytest.mark.parametrize('shape', [(5, 7), (11,)])
@pytest.mark.parametrize('drop', [0.999, 0.5, None])
def test_the_loss_is_the_slow_reference(shape, drop):
    pred, target = batch(*shape)
    found = AngularVMFLoss(loss_weight=2.0, drop_aligned=drop)(pred, target)
    assert found.item() == pytest.approx(2 * slow_mean(pred, target, drop), rel=2e-6, abs=1e-6)


def test_aligned_pixels_carry_no_loss_unless_they_shall():
    pred, target = batch(5, 7)
    pred.requires_grad_()
    AngularVMFLoss()(pred, target).backward()
    assert pred.grad.isfinite().all()
    assert (pred.grad[..., :3] == 0).all() and (pred.grad[..., 3:] != 0).any()
    pred.grad = None
    AngularVMFLoss(drop_aligned=None)(pred, target).backward()
    assert pred.grad.isfinite().all()
    known = (target[..., :3] != 0).any(1)
    assert (pred.grad[:, 3, ..., :3][known] != 0).all()  # κ learns from them
    # One degree off: kept by none of the published loss, exact with None.
    pixel = at_angle(math.radians(1), 3.0)
    assert AngularVMFLoss()(*pixel).item() == 0
    found = AngularVMFLoss(drop_aligned=None)(*pixel)
    assert found.item() == pytest.approx(reference(math.radians(1), 3.0), abs=1e-12)


def test_gradients_are_those_of_finite_differences():
    pred, target = batch(3, 4, dtype=torch.float64)
    kept = F.cosine_similarity(pred[:, :3], target, dim=1).abs() < 0.98
    target = target * kept[:, None]  # finite differences must not cross the threshold or the poles
    assert 3 < kept.sum() < 24
    for drop in (0.999, None):
        loss = AngularVMFLoss(drop_aligned=drop)
        assert torch.autograd.gradcheck(lambda p, loss=loss: loss(p, target), pred.clone().requires_grad_())


def test_the_gradient_is_the_closed_form():
    """∂/∂κ = θ − 2κ/(κ² + 1) − π e^(−κπ)/(1 + e^(−κπ)), and κ along the tangent for μ."""
    for theta, kappa in ((0.7, 2.0), (2.9, 0.3), (1e-3, 5.0), (math.pi - 1e-3, 5.0)):
        pred, target = at_angle(theta, kappa)
        AngularVMFLoss(drop_aligned=None)(pred, target).backward()
        e = math.exp(-kappa * math.pi)
        assert pred.grad[0, 3].item() == pytest.approx(
            theta - 2 * kappa / (kappa**2 + 1) - math.pi * e / (1 + e), abs=1e-9
        )
        tangent = torch.tensor([math.cos(theta), 0, -math.sin(theta)], dtype=torch.float64)
        torch.testing.assert_close(pred.grad[0, :3, 0], kappa * tangent, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_kappa_to_zero_is_the_uniform_distribution(dtype):
    for theta in (0.1, 1.5, 3.0):
        pred, target = at_angle(theta, 0.0, dtype)
        loss = AngularVMFLoss()(pred, target)
        loss.backward()
        assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
        assert pred.grad[0, 3].item() == pytest.approx(theta - math.pi / 2, abs=1e-6)
        assert pred.grad.isfinite().all()


@pytest.mark.parametrize('kappa', [1e4, 1e6, 1e20])
def test_kappa_to_infinity_does_not_overflow(kappa):
    pred, target = at_angle(0.5, kappa, torch.float32)
    loss = AngularVMFLoss()(pred, target)
    loss.backward()
    assert loss.item() == pytest.approx(kappa * 0.5 - 2 * math.log(kappa), rel=1e-5)
    assert pred.grad.isfinite().all() and pred.grad[0, 3].item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize('kappa', [0.0, 0.01, 1.0, 30.0])
def test_the_density_integrates_to_one_over_the_sphere(kappa):
    """∫ p dΩ = ∫ 2π sin θ e^(−loss) / 2π dθ."""
    theta = (torch.arange(1000, dtype=torch.float64) + 0.5) * math.pi / 1000
    pred = torch.stack([theta.sin(), 0 * theta, theta.cos(), torch.full_like(theta, kappa)])
    target = torch.tensor([0.0, 0, 1], dtype=torch.float64).view(1, 3, 1)
    loss = AngularVMFLoss(drop_aligned=None)
    losses = torch.stack([loss(pred[None, :, i : i + 1], target) for i in range(len(theta))])
    assert ((-losses).exp() * theta.sin()).sum().item() * math.pi / 1000 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(('loss', 'channels'), [(AngularVMFLoss(), 4), (CosineNormalLoss(), 3)])
def test_nothing_known_gives_zero_with_a_graph(loss, channels):
    pred = torch.randn(2, channels, 4, 5, requires_grad=True)
    value = loss(pred, torch.zeros(2, 3, 4, 5))
    value.backward()
    assert value.item() == 0 and (pred.grad == 0).all()


def test_half_precision_is_computed_in_float32():
    pred, target = batch(5, 7)
    found = AngularVMFLoss()(pred.half(), target)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(AngularVMFLoss()(pred.half().float(), target).item(), abs=0)


def test_the_cosine_loss_is_its_closed_form():
    pred, target = batch(5, 7)
    known = (target != 0).any(1)
    expected = (1 - F.cosine_similarity(pred[:, :3].double(), target.double(), dim=1))[known].mean()
    found = CosineNormalLoss(loss_weight=0.5)(pred[:, :3], target)
    assert found.item() == pytest.approx(0.5 * expected.item(), rel=1e-6)
    assert CosineNormalLoss()(3 * target, target).item() == pytest.approx(0, abs=1e-7)
    assert CosineNormalLoss()(-target, target).item() == pytest.approx(2, abs=1e-6)


def test_wrong_settings_and_shapes_say_so():
    with pytest.raises(ValueError, match=r'drop_aligned=1\.5: expected a cosine'):
        AngularVMFLoss(drop_aligned=1.5)
    with pytest.raises(ValueError, match=r'found a prediction \(1, 3, 2\) .* kappa=True'):
        AngularVMFLoss()(torch.ones(1, 3, 2), torch.ones(1, 3, 2))
    with pytest.raises(ValueError, match='a head with κ needs AngularVMFLoss'):
        CosineNormalLoss()(torch.ones(1, 4, 2), torch.ones(1, 3, 2))
    assert AngularVMFLoss().loss_name == 'loss_angular_vmf' and CosineNormalLoss().loss_name == 'loss_cosine_normal'
