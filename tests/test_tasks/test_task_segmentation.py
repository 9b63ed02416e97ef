"""Semantic segmentation: pseudo labels against a slow reference, files, geometry, refusals."""

import math

import numpy as np
import pytest
import torch
from mmseg.registry import METRICS, MODELS, TASK_UTILS

from mmdiff2in1.tasks import SemanticSegmentation


@pytest.fixture
def task():
    return SemanticSegmentation(4)


def test_pseudo_label_equals_a_slow_reference(task):
    logits = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target, confidence = task.pseudo_label(logits)
    assert target.shape == confidence.shape == (2, 1, 3, 5)
    assert target.dtype == torch.int64 and not confidence.requires_grad
    for b in range(2):
        for y in range(3):
            for x in range(5):
                scores = [float(v) for v in logits.detach()[b, :, y, x]]
                best = max(range(4), key=scores.__getitem__)
                assert int(target[b, 0, y, x]) == best
                share = math.exp(scores[best]) / sum(math.exp(v) for v in scores)
                assert float(confidence[b, 0, y, x]) == pytest.approx(share, abs=1e-6)


def test_activation_is_a_distribution(task):
    probabilities = task.activate(torch.tensor([0.0, math.log(2), 0.0, -100.0]).view(1, 4, 1, 1)).flatten()
    assert probabilities.tolist() == pytest.approx([0.25, 0.5, 0.25, 0.0], abs=1e-6)


def test_invalidate_copies_and_marks(task):
    target = torch.tensor([[[[0, 1], [2, 255]]]])
    mask = torch.tensor([[[[True, False], [False, False]]]])
    marked = task.invalidate(target, mask)
    assert marked.tolist() == [[[[255, 1], [2, 255]]]] and target[0, 0, 0, 0] == 0
    assert task.valid(marked).tolist() == [[[[False, True], [True, False]]]]


def test_maps(task):
    array = np.array([[0, 1, 2], [3, 255, 0]], np.uint8)
    np.testing.assert_array_equal(task.decode(task.encode(array.astype(np.int64))), array)
    assert task.encode(array).dtype == np.uint8
    np.testing.assert_array_equal(task.flip(array), [[2, 1, 0], [0, 255, 3]])
    np.testing.assert_array_equal(task.flip(task.flip(array)), array)
    np.testing.assert_array_equal(task.rescale(array, 2.0), array)
    np.testing.assert_array_equal(task.resize(array, (4, 6)), array.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(task.resize(array.repeat(3, 0).repeat(3, 1), (2, 3)), array)
    picture = SemanticSegmentation(4, palette=[(9, 0, 0), (0, 9, 0), (0, 0, 9), (9, 9, 9)]).colours(array)
    np.testing.assert_array_equal(picture[0], [(9, 0, 0), (0, 9, 0), (0, 0, 9)])
    np.testing.assert_array_equal(picture[1], [(9, 9, 9), (0, 0, 0), (9, 0, 0)])
    assert len({tuple(colour) for colour in SemanticSegmentation(150).palette.tolist()}) > 140


def test_defaults_can_be_built(task):
    loss = MODELS.build(task.loss)
    logits, target = torch.zeros(1, 4, 2, 2), torch.ones(1, 2, 2, dtype=torch.long)
    assert float(loss(logits, target)) == pytest.approx(math.log(4))
    assert METRICS.build(task.metric).ignore_index == 255
    assert TASK_UTILS.build(dict(type='SemanticSegmentation', num_classes=4)).channels == 4


def test_refusals(task):
    with pytest.raises(ValueError, match=r'holds \[4, 9\], expected classes 0 to 3 or 255'):
        task.encode(np.array([[4, 9, 0]]))
    with pytest.raises(ValueError, match='expected uint8 of shape'):
        task.decode(np.zeros((2, 2), np.uint16))
    with pytest.raises(ValueError, match=r'\(1, 5, 2, 2\), expected \(B, 4, H, W\)'):
        task.pseudo_label(torch.zeros(1, 5, 2, 2))
    with pytest.raises(ValueError, match='palette has 3 colours for 4 classes'):
        SemanticSegmentation(4, palette=[(0, 0, 0)] * 3)
    with pytest.raises(ValueError, match='ignore_index=3: expected 4 to 255'):
        SemanticSegmentation(4, ignore_index=3)
    with pytest.raises(ValueError, match='num_classes=256'):
        SemanticSegmentation(256)
