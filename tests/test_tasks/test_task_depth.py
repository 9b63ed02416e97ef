"""Depth: metres and millimetres, random scale, pseudo labels, refusals."""

import math

import numpy as np
import pytest
import torch
from mmseg.registry import METRICS, MODELS, TASK_UTILS

from mmdiff2in1.tasks import Depth, SurfaceNormal


@pytest.fixture
def task():
    return Depth(max_depth=8.0)


def test_files_lose_at_most_half_a_millimetre(task):
    array = np.random.default_rng(0).uniform(0.3, 8, (20, 30)).astype(np.float32)
    array[3, 4] = 0
    written = task.encode(array)
    assert written.dtype == np.uint16 and written[3, 4] == 0
    again = task.decode(written)
    assert again.dtype == np.float32
    assert np.abs(again - array).max() <= 5.01e-4
    np.testing.assert_array_equal(task.encode(again), written)


def test_geometry(task):
    array = np.array([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]], np.float32)
    np.testing.assert_array_equal(task.flip(array), [[0, 2, 1], [5, 4, 3]])
    np.testing.assert_array_equal(task.flip(task.flip(array)), array)
    scaled = task.rescale(array, 2.0)
    np.testing.assert_array_equal(scaled, [[0.5, 1, 0], [1.5, 2, 2.5]])
    assert scaled.dtype == np.float32
    large = task.resize(array, (6, 9))
    np.testing.assert_array_equal(large, array.repeat(3, 0).repeat(3, 1))  # no depth that was not there


def test_pseudo_label_is_the_usable_part_of_the_prediction(task):
    metres = torch.tensor([1.5, 20.0, 0.0, -1.0, math.nan, math.inf]).view(1, 1, 2, 3).requires_grad_()
    target, confidence = task.pseudo_label(metres)
    assert target.flatten().tolist() == [1.5, 8.0, 0.0, 0.0, 0.0, 0.0] and confidence is None
    assert not target.requires_grad
    assert task.valid(target).flatten().tolist() == [True, True, False, False, False, False]
    assert task.invalidate(target, torch.ones(1, 1, 2, 3)).abs().sum() == 0


def test_activation(task):
    logits = torch.tensor([0.0, math.log(3), -100.0]).view(1, 1, 1, 3)
    assert task.activate(logits).flatten().tolist() == pytest.approx([4.0, 6.0, 0.0])


def test_colours_go_from_bright_to_dark_and_black(task):
    picture = task.colours(np.array([[0.1, 4.0, 7.9, 0.0]], np.float32))
    assert picture.shape == (1, 4, 3) and picture.dtype == np.uint8
    near, middle, far, unknown = picture[0].astype(int).sum(-1)
    assert near > middle > far >= unknown == 0


def test_other_units_and_float_files():
    kitti = Depth(max_depth=80.0, units_per_metre=256)
    metres = np.array([[0.0, 3.14, 79.9]], np.float32)
    assert np.abs(kitti.decode(kitti.encode(metres)) - metres).max() <= 0.5 / 256
    np.testing.assert_array_equal(kitti.decode(metres.astype(np.float64)), metres)


def test_defaults_can_be_built(task):
    import mmdiff2in1.components  # noqa: F401  registers

    loss = MODELS.build(task.loss)
    target = torch.rand(2, 1, 4, 4) + 1
    assert float(loss(2 * target, target)) == pytest.approx(math.log(2) * math.sqrt(0.5), rel=1e-5)
    assert METRICS.build(task.metric).max_depth == 8.0
    assert TASK_UTILS.build(dict(type='Depth', max_depth=3.0)).max_depth == 3.0


def test_refusals(task):
    for value in (math.nan, math.inf, -0.5, 70.0):
        with pytest.raises(ValueError, match='1 pixels hold values like .*set those pixels to 0'):
            task.encode(np.array([[1.0, value]]))
    with pytest.raises(ValueError, match='holds uint8 of shape .* expected uint16 or float32 or float64 of shape'):
        task.decode(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match='1 pixels hold values like nan'):
        task.decode(np.array([[1.0, math.nan]]))
    with pytest.raises(ValueError, match='these maps hold no vectors'):
        task.reorient(np.ones((2, 2)), ('-x', '-y', '-z'))
    with pytest.raises(ValueError, match='units_per_metre=0'):
        Depth(units_per_metre=0)
    with pytest.raises(ValueError, match=r'expected \(B, 1, H, W\)'):
        task.pseudo_label(torch.zeros(1, 2, 2, 2))
    with pytest.raises(ValueError, match='max_depth=0'):
        Depth(0)


def test_distance_is_infinite_where_nothing_is_known():
    assert Depth().distance(np.float32([[1.5, 0.0]])).tolist() == [[1.5, np.inf]]
    assert SurfaceNormal().distance(np.zeros((1, 1, 3))) is None
