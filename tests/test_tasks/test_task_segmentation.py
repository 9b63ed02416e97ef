"""Semantic segmentation: pseudo labels against a slow reference, files, geometry, refusals."""

import math

import numpy as np
import pytest
import torch
from mmseg.registry import METRICS, MODELS, TASK_UTILS

from mmdiff2in1.tasks import Depth, SemanticSegmentation, SurfaceNormal


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


@pytest.mark.parametrize('threshold', [0.1, 0.3, 0.5, 0.9])
def test_one_logit_and_a_threshold_are_two_classes_as_in_mmseg(threshold):
    task = SemanticSegmentation(2, threshold=threshold)
    assert (task.num_classes, task.channels) == (2, 1)
    logits = torch.randn(2, 1, 30, 40, generator=torch.Generator().manual_seed(0)) * 3
    expected = (logits.sigmoid() > threshold).long()  # BaseSegmentor.postprocess_result
    target, confidence = task.pseudo_label(logits)
    assert 0.05 < expected.float().mean() < 0.95 and torch.equal(target, expected)
    probabilities = task.activate(logits)
    assert probabilities.shape == (2, 2, 30, 40)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 30, 40))
    assert torch.equal(confidence, probabilities.max(1, keepdim=True).values) and confidence.min() >= 0.5
    assert torch.equal(task.predictions(logits[0])['pred_sem_seg'], expected[0])
    assert torch.equal(task.predictions(logits[0])['seg_logits'], logits[0])
    unusable = task.pseudo_label(torch.full((1, 1, 1, 2), float('nan')))[0]
    assert unusable.tolist() == [[[[255, 255]]]]
    if threshold == 0.5:  # the probability of class 1 is the sigmoid itself
        torch.testing.assert_close(probabilities[:, 1:], logits.sigmoid())


def test_mirrored_pairs_change_places():
    """Left and right arm are 1 and 3: in the mirror, maps and outputs agree on which is which."""
    task = SemanticSegmentation(4, mirrored_pairs=[(1, 3)])
    array = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)
    np.testing.assert_array_equal(task.flip(array), [[2, 3, 0], [3, 255, 1]])
    assert task.flip(array).dtype == np.uint8
    np.testing.assert_array_equal(task.flip(task.flip(array)), array)
    np.testing.assert_array_equal(task.flip(array.astype(np.int64)), task.flip(array))
    output = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    mirrored = task.flip_output(output)
    assert torch.equal(mirrored, output.flip(-1)[:, [0, 3, 2, 1]])
    assert torch.equal(task.flip_output(mirrored), output)
    labels = task.pseudo_label(output)[0][:, 0].numpy().astype(np.uint8)
    again = task.pseudo_label(mirrored)[0][:, 0].numpy()
    np.testing.assert_array_equal(again, [task.flip(label) for label in labels])
    plain = SemanticSegmentation(4)
    assert torch.equal(plain.flip_output(output), output.flip(-1))


def test_names_and_colours_of_a_data_set():
    meta = dict(classes=('a', 'b'), palette=[[1, 2, 3], [4, 5, 6]])
    task = SemanticSegmentation(2, ignore_index=7, threshold=0.3).of_dataset(meta)
    assert task.classes == ('a', 'b') and task.palette.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (task.ignore_index, task.threshold, task.channels) == (7, 0.3, 1)
    pairs = SemanticSegmentation(2, mirrored_pairs=[(0, 1)]).of_dataset(meta)
    assert pairs.mirrored_pairs == ((0, 1),)
    own = SemanticSegmentation(3, palette=[(9, 9, 9)] * 3, classes=['x', 'y', 'z'])
    for other in (meta, dict(), dict(classes=None, palette=[])):
        kept = own.of_dataset(other)
        assert kept.classes == ('x', 'y', 'z') and kept.palette.tolist() == [[9, 9, 9]] * 3
    depth = Depth()
    assert depth.of_dataset(meta) is depth


def test_legend():
    """Most frequent first; what is ignored is grey; a class without a name has its number."""
    array = np.array([[2, 2, 2, 2, 2], [0, 0, 0, 255, 255]], np.uint8)
    palette = [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    task = SemanticSegmentation(3, palette=palette, classes=('wall', 'floor', 'bed'))
    assert task.legend(array) == [
        ('2 bed 50.0%', (3, 3, 3)),
        ('0 wall 30.0%', (1, 1, 1)),
        ('255 ignored 20.0%', (60, 60, 60)),
    ]
    assert SemanticSegmentation(3, palette=palette).legend(array)[0] == ('2 class 50.0%', (3, 3, 3))
    assert SemanticSegmentation(3).legend(np.full((2, 2), 255, np.uint8)) == [('255 ignored 100.0%', (60, 60, 60))]
    with pytest.raises(ValueError, match=r'holds \[9\]'):
        task.legend(np.full((2, 2), 9, np.uint8))


def test_legends_of_continuous_maps():
    metres = np.array([[0, 2, 4, 9]], np.float32)
    lines = Depth(8.0).legend(metres)
    assert lines[0] == ('depth: 75.0% of the pixels', (60, 60, 60))
    assert [text for text, _ in lines[1:]] == ['2 m', '4 m', '6 m', '8 m']
    picture = Depth(8.0).colours(metres)
    assert [lines[1][1], lines[2][1], lines[4][1]] == [tuple(colour) for colour in picture[0, 1:].tolist()]
    vectors = np.array([[[0, 0, 1], [0, 1, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 0]]], np.float32)
    lines = SurfaceNormal().legend(vectors)
    assert lines[0][0] == 'normal: 83.3% of the pixels'
    assert [text for text, _ in lines[1:]] == [
        f'facing {where}' for where in ('the viewer', 'up', 'down', 'left', 'right')
    ]
    assert [colour for _, colour in lines[1:]] == [
        tuple(each) for each in SurfaceNormal().colours(vectors)[0, :5].tolist()
    ]


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
    for index in (-1, 256):
        with pytest.raises(ValueError, match=f'ignore_index={index}: expected 0 to 255'):
            SemanticSegmentation(4, ignore_index=index)
    with pytest.raises(ValueError, match='num_classes=256'):
        SemanticSegmentation(256)
    with pytest.raises(ValueError, match='classes holds 3 names for 4 classes'):
        SemanticSegmentation(4, classes=('a', 'b', 'c'))
    for classes, threshold in ((4, 0.5), (2, 0.0), (2, 1.0)):
        with pytest.raises(ValueError, match=f'threshold={threshold}: expected a number in'):
            SemanticSegmentation(classes, threshold=threshold)
    for pairs in ([(1, 4)], [(1, 1)], [(0, 1), (1, 2)]):
        with pytest.raises(ValueError, match='expected pairs of different classes'):
            SemanticSegmentation(4, mirrored_pairs=pairs)
    with pytest.raises(ValueError, match='one logit has no channels that change places'):
        SemanticSegmentation(2, threshold=0.5, mirrored_pairs=[(0, 1)])
