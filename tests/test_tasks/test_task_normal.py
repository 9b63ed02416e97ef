"""Surface normals: 16-bit round trip, mirroring, resizing beside unknown areas, pseudo labels, refusals."""

import numpy as np
import pytest
import torch
from mmseg.registry import TASK_UTILS

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


def test_no_default_loss_yet(task):
    assert task.loss is None and task.metric is None
    assert TASK_UTILS.build(dict(type='SurfaceNormal')).field == 'gt_normal_map'


def test_refusals(task):
    with pytest.raises(ValueError, match='1 vectors have a length like 2, expected 1, or 0'):
        task.encode(np.array([[[0.0, 2.0, 0.0], [0.0, 1.0, 0.0]]]))
    with pytest.raises(ValueError, match='1 vectors have a length like nan'):
        task.encode(np.array([[[0.0, np.nan, 0.0]]]))
    with pytest.raises(ValueError, match='length like .*written as'):
        task.decode(np.full((1, 1, 3), 32768, np.uint16))  # grey: a zero-length normal that is not marked invalid
    with pytest.raises(ValueError, match='holds uint8 .* expected uint16'):
        task.decode(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r'expected \(B, 3, H, W\)'):
        task.activate(torch.zeros(1, 4, 2, 2))
