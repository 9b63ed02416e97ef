"""Errors of maps, agreement with labels, and what is said of them."""

import numpy as np
import pytest

from mmdiff2in1.reporting.agreement import Agreement
from mmdiff2in1.reporting.errors import error_colours, error_legend, error_scale, in_words, mean_error, pixel_errors
from mmdiff2in1.reporting.pictures import LONGEST, flat, legend, photo
from mmdiff2in1.tasks import Depth, Edges, SemanticSegmentation, SurfaceNormal

CLASSES = SemanticSegmentation(3, classes=('a', 'b', 'c'), palette=[(9, 9, 9), (200, 0, 0), (0, 200, 0)])


def classes(*rows):
    return np.array(rows, np.uint8)


def test_errors_of_classes():
    truth, found = classes([0, 1, 255], [2, 2, 0]), classes([0, 2, 1], [2, 255, 0])
    errors = pixel_errors(CLASSES, found, truth)
    np.testing.assert_array_equal(errors, np.array([[0, 1, np.nan], [0, 1, 0]], np.float32))
    assert mean_error(errors) == pytest.approx(0.4) and in_words(CLASSES, 0.4) == '40.0% of the known pixels are wrong'
    colours = error_colours(CLASSES, errors, 1.0)
    assert colours[0].tolist() == [[205] * 3, [214, 39, 40], [0] * 3]
    assert [swatch.text for swatch in error_legend(CLASSES, 1.0)] == ['error:', 'right', 'wrong', 'not known']


def test_errors_of_vectors_are_degrees():
    truth = np.array([[[0, 0, 1], [0, 1, 0], [0, 0, 0]]], np.float32)
    half = np.sqrt(0.5)
    found = np.array([[[0, 0, 1], [half, half, 0], [1, 0, 0]]], np.float32)
    errors = pixel_errors(SurfaceNormal(), found, truth)
    np.testing.assert_allclose(errors, [[0, 45, np.nan]], atol=1e-3)
    assert in_words(SurfaceNormal(), 22.5) == 'mean error 22.5 °'


def test_errors_of_depth_are_metres_on_one_scale():
    truth, found = np.array([[1, 2, 0, 4]], np.float32), np.array([[1.5, 2, 3, 0]], np.float32)
    errors = pixel_errors(Depth(), found, truth)
    np.testing.assert_allclose(errors, [[0.5, 0, np.nan, np.nan]])
    assert error_scale(Depth(), [errors, np.full((10, 10), 0.31, np.float32)]) == pytest.approx(0.4)
    assert error_scale(SurfaceNormal(), [np.full((2, 2), 170, np.float32)]) == 180
    assert error_scale(Depth(), [np.full((1, 1), np.nan, np.float32)]) == 1.0
    assert in_words(Depth(), 0.25) == 'mean error 0.25 m'
    assert error_colours(Depth(), errors, 0.5)[0, 2].tolist() == [0, 0, 0]


def test_no_error_without_known_pixels():
    assert mean_error(pixel_errors(CLASSES, classes([1]), classes([255]))) is None


def test_agreement_of_classes():
    agreement = Agreement(CLASSES)
    agreement.add(classes([0, 1, 1, 255]), classes([0, 0, 1, 1]))
    agreement.add(classes([2]), classes([255]))
    assert agreement.images == 2 and agreement.overall == pytest.approx(2 / 4)
    assert agreement.iou(0) == pytest.approx(1 / 2)
    assert agreement.iou(1) == pytest.approx(1 / 3)  # of three pixels: both, found alone, label alone
    assert agreement.iou(2) is None


def test_agreement_without_classes():
    agreement = Agreement(Depth())
    assert agreement.overall is None and agreement.iou(0) is None
    agreement.add(np.full((2, 2), 2, np.float32), np.full((2, 2), 1, np.float32))
    agreement.add(np.full((2, 2), 2, np.float32), np.zeros((2, 2), np.float32))
    assert (agreement.images, agreement.overall) == (2, 1.0)


def test_legends_name_what_occurs():
    found = legend(CLASSES, [classes([1, 1, 0]), classes([1, 255])])
    assert [(swatch.text, swatch.colour) for swatch in found] == [
        ('semantic segmentation:', ''),
        ('b', '#c80000'),
        ('a', '#090909'),
        ('nothing known', '#000000'),
    ]
    depth = [swatch.text for swatch in legend(Depth(), [np.ones((2, 2), np.float32)])]
    assert depth == ['depth:', '2.5 m', '5 m', '7.5 m', '10 m']
    edges = [swatch.text for swatch in legend(Edges(), [np.ones((2, 2), np.float32)])]
    assert edges == ['edge:', 'edge', 'no edge']


def test_large_pictures_are_shrunk():
    image = np.zeros((600, 800, 3), np.uint8)
    for picture in (photo(image, 'a', 'b'), flat(image, 'a', 'b')):
        assert (picture.height, picture.width) == (300, LONGEST) and not picture.small
