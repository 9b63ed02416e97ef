"""Surface normals: 16-bit round trip, mirroring, resizing beside unknown areas, pseudo labels, refusals."""

import math

import numpy as np
import pytest
import torch
from mmseg.registry import METRICS, MODELS, TASK_UTILS

from mmdiff2in1.tasks import SurfaceNormal


@pytest.fixture
def task():
    return SurfaceNormal()


@pytest.fixture
def array():
    vectors = np.random.default_rng(0).normal(size=(12, 16, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors[4:8, 5:9] = 0
    return vectors


def test_files_lose_less_than_a_ten_thousandth(task, array):
    written = task.encode(array)
    assert written.dtype == np.uint16 and not written[4:8, 5:9].any()
    again = task.decode(written)
    assert again.dtype == np.float32
    assert np.abs(again - array).max() <= 1e-4
    assert not again[4:8, 5:9].any()
    axes = np.array([[[1, 0, 0], [0, -1, 0], [0, 0, 1]]], np.float32)
    assert task.encode(axes)[0, 0].tolist() == [65535, 32768, 32768]
    np.testing.assert_allclose(task.decode(task.encode(axes)), axes, atol=2e-5)


def test_flip_mirrors_and_negates_x(task, array):
    mirrored = task.flip(array)
    np.testing.assert_array_equal(mirrored[:, 0, 0], -array[:, -1, 0])
    np.testing.assert_array_equal(mirrored[:, 0, 1:], array[:, -1, 1:])
    np.testing.assert_array_equal(task.flip(mirrored), array)
    np.testing.assert_array_equal(task.rescale(array, 2.0), array)


@pytest.mark.parametrize('size', [(24, 32), (7, 9), (12, 16), (37, 5)])
def test_resize_stays_unit_or_zero(task, array, size):
    length = np.linalg.norm(task.resize(array, size), axis=-1)
    assert length.shape == size
    assert np.all((np.abs(length - 1) < 1e-5) | (length == 0))
    assert 0 < (length == 0).mean() < 0.3


def test_resize_does_not_bend_vectors_beside_unknown_ones(task):
    flat = np.zeros((8, 8, 3), np.float32)
    flat[:, :5] = (0.6, 0.0, 0.8)
    large = task.resize(flat, (16, 16))
    known = large.any(-1)
    np.testing.assert_allclose(large[known], np.broadcast_to((0.6, 0, 0.8), (known.sum(), 3)), atol=1e-6)
    assert known[:, :10].all() and not known[:, 10:].any()


def test_pseudo_label_has_unit_length(task):
    output = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0], [0.0, -2.0, 0.0], [float('nan'), 0.0, 1.0]])
    target, confidence = task.pseudo_label(output.T.reshape(1, 3, 2, 2).requires_grad_())
    assert confidence is None and not target.requires_grad
    np.testing.assert_allclose(
        target[0].flatten(1).T.numpy(), [[0.6, 0, 0.8], [0, 0, 0], [0, -1, 0], [0, 0, 0]], atol=1e-6
    )
    assert task.valid(target).flatten().tolist() == [True, False, True, False]
    marked = task.invalidate(target, torch.tensor([True, False, False, False]).view(1, 1, 2, 2))
    assert task.valid(marked).flatten().tolist() == [False, False, True, False]
    assert task.valid(target)[0, 0, 0, 0]


def test_activation_and_colours(task):
    logits = torch.tensor([2.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert task.activate(logits).flatten().tolist() == [1.0, 0.0, 0.0]
    picture = task.colours(np.array([[[1, 0, 0], [0, 0, 1], [0, 0, 0]]], np.float32))
    assert picture[0].tolist() == [[255, 128, 128], [128, 128, 255], [0, 0, 0]]


def test_kappa_is_a_fourth_channel_and_becomes_a_confidence():
    task = SurfaceNormal(kappa=True, within=30)
    raw = torch.tensor([[0.0, 3.0, 4.0, -50.0], [2.0, 0.0, 0.0, 9.0]]).T.reshape(1, 4, 1, 2)
    output = task.activate(raw)
    np.testing.assert_allclose(output[0, :, 0].T, [[0, 0.6, 0.8, 0.01], [1, 0, 0, 10.01]], atol=1e-6)
    target, confidence = task.pseudo_label(output)
    assert target.shape == (1, 3, 1, 2) and confidence.shape == (1, 1, 1, 2)
    assert task.channels == 4 and SurfaceNormal().channels == 3


@pytest.mark.parametrize('kappa', [0.0, 0.01, 1.0, 7.5, 300.0])
@pytest.mark.parametrize('degrees', [1.0, 22.5, 90.0, 179.0])
def test_confidence_is_the_mass_of_the_distribution_inside_the_angle(kappa, degrees):
    """Numerical integral of the density over the cap, by the midpoint rule."""

    def mass(angle):
        theta = (np.arange(200_000) + 0.5) * angle / 200_000
        density = (kappa**2 + 1) * np.exp(-kappa * theta) / (2 * math.pi * (1 + np.exp(-kappa * math.pi)))
        return (density * 2 * math.pi * np.sin(theta)).sum() * angle / 200_000

    assert mass(math.pi) == pytest.approx(1, abs=1e-5)
    found = SurfaceNormal.probability_within(torch.tensor(kappa, dtype=torch.float64), degrees)
    assert float(found) == pytest.approx(mass(math.radians(degrees)), abs=1e-5)


def test_confidence_without_and_with_full_certainty():
    ends = SurfaceNormal.probability_within(torch.tensor([0.0, 1e6, float('inf')]), 60.0)
    assert ends[:2].tolist() == pytest.approx([0.25, 1.0])  # a cap of 60 degrees is a quarter of the sphere


def wall_seen_by_a_camera(height, width, normal):
    """What an exact model says of a scene with one plane left of the middle and another right of it."""
    image = np.zeros((height, width, 3), np.float32)
    image[:, : width // 3] = normal
    image[:, width // 3 :] = (0.0, 0.6, 0.8)
    return image


def test_mirrored_prediction_mirrored_back_is_the_prediction(task):
    """Flip the image, predict exactly, flip back: the normals of the scene itself."""
    truth = wall_seen_by_a_camera(6, 9, (-0.8, 0.0, 0.6))
    mirrored_scene = task.flip(truth)
    output = torch.from_numpy(mirrored_scene).permute(2, 0, 1)[None]
    np.testing.assert_array_equal(task.flip_output(output)[0].permute(1, 2, 0), truth)
    with_kappa = torch.cat([output, torch.arange(54.0).view(1, 1, 6, 9)], dim=1)
    back = SurfaceNormal(kappa=True).flip_output(with_kappa)
    np.testing.assert_array_equal(back[0, 3], np.arange(54.0).reshape(6, 9)[:, ::-1])
    np.testing.assert_array_equal(back[0, :3].permute(1, 2, 0), truth)


def test_resized_output_has_unit_length_and_bilinear_kappa():
    task = SurfaceNormal(kappa=True)
    output = task.activate(torch.randn(2, 4, 5, 7))
    large = task.resize_output(output, (10, 14))
    np.testing.assert_allclose(large[:, :3].norm(dim=1), 1, atol=1e-6)
    expected = torch.nn.functional.interpolate(output[:, 3:], (10, 14), mode='bilinear', align_corners=False)
    torch.testing.assert_close(large[:, 3:], expected)


def test_public_files_have_eight_bits(task, array):
    written = np.where(array.any(-1, keepdims=True), np.round((array + 1) / 2 * 255), 0).astype(np.uint8)
    again = task.decode(written)
    known = array.any(-1)
    cosine = (again * array).sum(-1)[known].clip(-1, 1)
    assert np.degrees(np.arccos(cosine)).max() < 0.45 and not again[~known].any()
    np.testing.assert_array_equal(task.decode(again.astype(np.float64)), task.decode(again))


def test_a_few_vectors_of_another_length_become_unknown(task):
    file = np.full((40, 60, 3), (128, 128, 255), np.uint8)
    file[0, :2] = 128
    with pytest.warns(UserWarning, match='count as not known'):
        found = task.decode(file)
    assert not found[0, :2].any() and np.isclose(np.linalg.norm(found[0, 2:], axis=-1), 1).all()
    file[0, :3] = 128
    with pytest.raises(ValueError, match='3 vectors of the label file'):
        task.decode(file)


def test_files_of_other_frames(task):
    """ScanNet's floor is (0, -1, 0) on disk; in Ladicky's maps of NYUv2 the wall in front is (-1, 0, 0)."""
    floor, wall = np.array([[[0.0, -1.0, 0.0]]], np.float32), np.array([[[-1.0, 0.0, 0.0]]], np.float32)
    assert task.reorient(floor, ('-x', '-y', '-z'))[0, 0].tolist() == [0, 1, 0]
    assert task.reorient(wall, ('-z', '-y', '-x'))[0, 0].tolist() == [0, 0, 1]
    for wrong in (('x', 'y'), ('x', 'x', 'z'), ('x', 'y', '+z')):
        with pytest.raises(ValueError, match='expected x, y and z in some order'):
            task.reorient(floor, wrong)


def test_defaults_can_be_built():
    import mmdiff2in1.components  # noqa: F401  registers

    for kappa, loss in ((False, 'CosineNormalLoss'), (True, 'AngularVMFLoss')):
        task = TASK_UTILS.build(dict(type='SurfaceNormal', kappa=kappa))
        assert type(MODELS.build(task.loss)).__name__ == loss
        assert type(METRICS.build(task.metric)).__name__ == 'SurfaceNormalMetric'
        assert task.field == 'gt_normal_map' and task.prediction == 'pred_normal_map'


def test_refusals(task):
    with pytest.raises(ValueError, match='1 vectors have a length like 2, expected 1, or 0'):
        task.encode(np.array([[[0.0, 2.0, 0.0], [0.0, 1.0, 0.0]]]))
    with pytest.raises(ValueError, match='1 vectors have a length like nan'):
        task.encode(np.array([[[0.0, np.nan, 0.0]]]))
    with pytest.raises(ValueError, match='length like .*written as'):
        task.decode(np.full((1, 1, 3), 32768, np.uint16))  # grey: a zero-length normal that is not marked invalid
    with pytest.raises(ValueError, match='holds uint8 .* expected uint16 or uint8 or float32 or float64'):
        task.decode(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match='length like nan'):
        task.decode(np.array([[[0.0, np.nan, 0.0]]]))
    with pytest.raises(ValueError, match='within=180'):
        SurfaceNormal(within=180)
    with pytest.raises(ValueError, match=r'expected \(B, 3, H, W\)'):
        task.activate(torch.zeros(1, 4, 2, 2))
