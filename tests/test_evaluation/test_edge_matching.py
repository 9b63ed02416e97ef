"""The matching against a slow one and by hand; the suppression against a loop; targets of BSDS500."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from mmdiff2in1.core.region_borders import region_borders
from mmdiff2in1.core.thinning import thin
from mmdiff2in1.evaluation.edge_counts import THRESHOLDS, counts_of_image, edge_counts
from mmdiff2in1.evaluation.edge_matching import matched
from mmdiff2in1.evaluation.edge_nms import orientation, suppressed, triangle_filter

SAMPLES = Path(os.environ.get('MMDIFF2IN1_SAMPLES', Path(__file__).resolve().parents[2] / 'data/samples'))
BSDS = SAMPLES / 'bsds500/groundTruth'


def most_pairs(truth, predicted, distance):
    """The size of a maximum matching: one augmenting path at a time."""
    left, right = np.argwhere(truth).tolist(), np.argwhere(predicted).tolist()
    near = [[j for j, q in enumerate(right) if math.dist(p, q) <= distance] for p in left]
    owner = {}

    def placed(i, tried):
        for j in near[i]:
            if j not in tried:
                tried.add(j)
                if j not in owner or placed(owner[j], tried):
                    owner[j] = i
                    return True
        return False

    return sum(placed(i, set()) for i in range(len(left)))


def test_as_many_pairs_as_there_can_be():
    generator, greedy_fails = np.random.default_rng(0), 0
    for trial in range(40):
        share = generator.uniform(0.05, 0.4, 2)
        truth, predicted = (generator.random((12, 15)) < each for each in share)
        distance = float(generator.uniform(0.5, 3.5))
        found, used = matched(truth, predicted, distance)
        assert not (found & ~truth).any() and not (used & ~predicted).any()
        assert found.sum() == used.sum() == most_pairs(truth, predicted, distance), trial
        greedy_fails += int(found.sum()) < min(truth.sum(), predicted.sum())
    assert greedy_fails > 5, 'some have pixels without a partner'


def test_a_pair_that_was_near_is_given_up_for_two():
    """True at 0 and 3, predicted at 2 and 6, distance 3: the nearest pair (3, 2) leaves two pixels alone."""
    truth, predicted = np.zeros((1, 8), bool), np.zeros((1, 8), bool)
    truth[0, [0, 3]] = predicted[0, [2, 6]] = True
    found, used = matched(truth, predicted, 3)
    assert found.sum() == used.sum() == 2
    assert matched(truth, predicted, 2.9)[0].sum() == 1
    assert matched(truth, truth, 0)[0].sum() == 2
    for empty in (truth & False, predicted & False):
        assert not matched(truth, empty, 3)[0].any() and not matched(empty, predicted, 3)[1].any()
    with pytest.raises(ValueError, match=r'contours are \(1, 8\), the predicted ones \(1, 9\)'):
        matched(truth, np.zeros((1, 9), bool), 1)


def slow_suppressed(values):
    """The definition, pixel by pixel."""
    height, width = values.shape
    angle, kept = orientation(values), np.zeros_like(values)

    def at(y, x):
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        return sum(
            max(0, 1 - abs(y - v)) * max(0, 1 - abs(x - u)) * values[v, u]
            for v in range(height) for u in range(width) if abs(y - v) < 1 and abs(x - u) < 1
        )  # fmt: skip

    for y in range(height):
        for x in range(width):
            s, c = math.sin(angle[y, x]), math.cos(angle[y, x])
            if 1.01 * values[y, x] >= max(at(y + s, x + c), at(y - s, x - c)):
                inside = [min(place, last - place) for place, last in ((y, height - 1), (x, width - 1))]
                kept[y, x] = values[y, x] * math.prod(min(1, each / 5) for each in inside)
    return kept


def test_suppression_equals_a_loop():
    values = triangle_filter(np.random.default_rng(0).random((16, 19)), 1)
    found = suppressed(values)
    np.testing.assert_allclose(found, slow_suppressed(values), atol=1e-12)
    assert 0.1 < (found > 0).mean() < 0.6


def test_the_filter_is_a_triangle_with_a_mirror():
    point = np.zeros((11, 11))
    point[5, 5] = 625
    row = [1, 2, 3, 4, 5, 4, 3, 2, 1]
    np.testing.assert_allclose(triangle_filter(point)[1:10, 1:10], np.outer(row, row), atol=1e-9)
    np.testing.assert_allclose(triangle_filter(np.full((6, 7), 3.0)), 3.0)


@pytest.mark.parametrize('degrees', [0, 30, 45, 60, 120, 135, 150])
def test_a_blurred_line_becomes_its_ridge(degrees):
    """The published O of a line that is crossed at θ is ±atan(tan² θ), near enough to θ to find the ridge."""
    y, x = np.mgrid[:41, :41] - 20.0
    across = np.deg2rad(degrees)
    offset = x * np.cos(across) + y * np.sin(across)
    line = np.exp(-(offset**2) / 8)
    inner = (suppressed(line) > 0)[8:-8, 8:-8]
    assert np.abs(offset[8:-8, 8:-8][inner]).max() < 1 and inner.sum() >= 25
    expected = np.rad2deg(np.arctan(np.tan(across) ** 2)) * (1 if degrees < 90 else -1) % 180
    assert np.rad2deg(orientation(line)[20, 20]) == pytest.approx(expected, abs=2)


def test_an_exactly_horizontal_line_is_left_to_the_thinning():
    """As published: without a mixed derivative O is 0, along the line, where no neighbour is stronger."""
    line = np.exp(-(np.arange(-20.0, 21.0)[:, None].repeat(41, 1) ** 2) / 8)
    assert (orientation(line)[8:-8, 8:-8] == 0).all()
    assert (suppressed(line)[8:-8, 8:-8] == line[8:-8, 8:-8]).all()
    thinned = thin(suppressed(line) > 0.5)
    assert (thinned[:, 15:26].sum(0) == 1).all()


def test_counts_of_a_line_that_is_off_by_some_pixels():
    """A square of 30 in 60 × 80, diagonal 100: 3 pixels are 0.03 of it."""
    labels = np.zeros((60, 80), np.uint8)
    labels[15:45, 20:50] = 1
    contour = thin(region_borders(labels))
    written = np.zeros((60, 80), np.uint8)
    written[np.roll(contour, 3, axis=1)] = 200
    near = counts_of_image(written, labels, max_distance=0.031)
    far = counts_of_image(written, labels, max_distance=0.029)
    assert near.shape == (101, 4) and near.dtype == np.int64
    total, last = int(contour.sum()), sum(threshold < 200 / 255 for threshold in THRESHOLDS) - 1
    assert near[0, 1] == total and near[0, 0] == near[0, 2] >= 0.9 * near[0, 3] > 0.7 * total
    assert far[0, 0] < near[0, 0]
    np.testing.assert_array_equal(near[:last], near[:1].repeat(last, 0))
    np.testing.assert_array_equal(near[last + 1 :], [[0, total, 0, 0]] * (101 - last - 1))
    known = np.ones((60, 80), bool)
    known[:, 30:] = False
    half = counts_of_image(written, labels, known, 0.031)
    assert 0 < half[0, 1] < total and 0 < half[0, 3] < near[0, 3]


def test_of_several_truths_one_partner_is_enough():
    first, second, strength = (np.zeros((20, 20)) for _ in range(3))
    first[:, 4] = second[:, 12] = strength[:, 4] = strength[:, 12] = strength[:, 18] = 1
    counts = edge_counts(strength, [first > 0, second > 0], 0.01, [0.5])
    assert counts.tolist() == [[40, 40, 40, 60]]


def annotators(file):
    from scipy.io import loadmat

    return [thin(region_borders(each[0, 0]['Segmentation'])) for each in loadmat(file)['groundTruth'][0]]


def of_everybody(files):
    total = np.zeros(4, np.int64)
    for file in files:
        people = annotators(file)
        for i, own in enumerate(people):
            total += edge_counts(own.astype(float), people[:i] + people[i + 1 :], 0.0075, [0.5])[0]
    return total[0] / total[1], total[2] / total[3]


@pytest.mark.skipif(not BSDS.is_dir(), reason='no samples (MMDIFF2IN1_SAMPLES)')
class TestBSDS:
    def test_our_contours_are_those_of_the_set_and_match_themselves(self):
        from scipy.io import loadmat

        file = sorted(BSDS.glob('*/*.mat'))[0]
        people = annotators(file)
        for own, theirs in zip(people, loadmat(file)['groundTruth'][0], strict=True):
            np.testing.assert_array_equal(own, thin(theirs[0, 0]['Boundaries'] > 0))
        found, true, used, predicted = edge_counts(people[0].astype(float), people[:1], 0.0075, [0.5])[0]
        assert found == true == used == predicted > 1000

    @pytest.mark.slow
    def test_every_annotator_against_all_others(self):
        files = sorted(BSDS.glob('*/*.mat'))
        assert len(files) == 18, 'the figures are of these'
        recall, precision = of_everybody(files)
        assert (round(recall, 3), round(precision, 3)) == (0.766, 0.922)
        assert round(2 * recall * precision / (recall + precision), 3) == 0.837
