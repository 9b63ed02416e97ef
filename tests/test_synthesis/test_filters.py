"""Scores in closed form, and thresholds on them."""

import numpy as np
import pytest

from mmdiff2in1.synthesis import contrast, rejection, score, source_distance
from mmdiff2in1.synthesis.filters import check_thresholds

GREY = np.full((4, 6, 3), 100, np.uint8)


def test_source_distance_is_the_root_mean_square():
    assert source_distance(GREY, GREY) == 0
    assert source_distance(GREY, GREY + 7) == pytest.approx(7)
    assert source_distance(np.zeros_like(GREY), np.full_like(GREY, 255)) == 255
    one_channel = GREY.copy()
    one_channel[..., 0] += 30
    assert source_distance(GREY, one_channel) == pytest.approx((30**2 / 3) ** 0.5)
    with pytest.raises(ValueError, match='expected equal shapes'):
        source_distance(GREY, GREY[:2])


def test_contrast_is_the_deviation_of_the_luma():
    assert contrast(GREY) == pytest.approx(0, abs=1e-9)
    halves = GREY.copy()
    halves[:2] = 0
    assert contrast(halves) == pytest.approx(50)
    blue = np.zeros_like(GREY)
    blue[:2, :, 2] = 200
    assert contrast(blue) == pytest.approx(0.114 * 100)


def test_scores_without_source():
    assert score(GREY, None) == {'contrast': 0.0}
    assert score(GREY, GREY + 7) == {'source_distance': 7.0, 'contrast': 0.0}


def test_rejection_names_the_score_and_the_limit():
    scores = dict(source_distance=12.5, contrast=40.0)
    assert rejection(scores, None) is None
    assert rejection(scores, dict(source_distance=(12.5, 12.5), contrast=(None, None))) is None
    assert rejection(scores, dict(source_distance=(13, None))) == 'source_distance 12.5 is below 13'
    assert rejection(scores, dict(contrast=(0, 39.9))) == 'contrast 40 is above 39.9'
    assert rejection(dict(contrast=40.0), dict(source_distance=(13, None))) is None


@pytest.mark.parametrize(
    ('thresholds', 'message'),
    [
        (dict(sharpness=(0, 1)), "unknown filter 'sharpness'; known: source_distance, contrast"),
        (dict(contrast=5), r'contrast is 5, expected \(lowest, highest\)'),
        (dict(contrast=(5, 1)), 'nothing would pass'),
    ],
)
def test_impossible_thresholds(thresholds, message):
    with pytest.raises(ValueError, match=message):
        check_thresholds(thresholds)
