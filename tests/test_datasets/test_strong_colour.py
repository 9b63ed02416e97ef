"""StrongColour: each change against its closed form, what is drawn, what is refused."""

import cv2
import numpy as np
import pytest
from mmseg.registry import TRANSFORMS

from mmdiff2in1.core.colours import LUMA, changed_colours
from mmdiff2in1.core.randomness import seed_all
from mmdiff2in1.datasets import StrongColour

NONE = dict(
    gamma=None, channel=None, brightness=None, contrast=None, hue=None, saturation=None, grey=0.0, blur=None, noise=None
)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def rounded(value):
    return np.round(np.clip(value, 0, 1) * 255).astype(np.uint8)


def test_each_change_is_its_formula(image):
    unit = image / 255
    luma = unit @ LUMA
    for strengths, expected in (
        ({}, unit),
        (dict(gamma=0.5), unit**0.5),
        (dict(channel=np.array([0.5, 1.0, 1.5])), unit * [0.5, 1.0, 1.5]),
        (dict(brightness=0.6), unit * 0.6),
        (dict(contrast=0.5), luma.mean() + (unit - luma.mean()) * 0.5),
        (dict(saturation=0.0), np.repeat(unit.max(-1, keepdims=True), 3, -1)),
        (dict(hue=120.0), unit[..., [1, 2, 0]]),
        (dict(grey=0.0), np.repeat(luma[..., None], 3, -1)),
        (dict(blur=0.8), cv2.GaussianBlur(unit, (0, 0), 0.8, borderType=cv2.BORDER_REFLECT_101)),
    ):
        found = changed_colours(image, strengths)
        assert found.dtype == np.uint8
        assert np.abs(found.astype(int) - rounded(expected)).max() <= 1, strengths


def test_a_turn_of_the_hue_moves_blue_to_red():
    blue = np.zeros((1, 1, 3), np.uint8)
    blue[..., 0] = 200  # BGR
    assert changed_colours(blue, dict(hue=120.0))[0, 0].tolist() == [0, 0, 200]


def test_noise_has_its_spread():
    grey = np.full((64, 64, 3), 128, np.uint8)
    noise = changed_colours(grey, dict(noise=10.0), seed=3).astype(float) - 128
    assert abs(noise.std() - 10) < 0.3 and abs(noise.mean()) < 0.3
    assert np.array_equal(changed_colours(grey, dict(noise=10.0), seed=3) - 128.0, noise)


def test_it_is_drawn_from_the_ambient_state_and_draws_equally_much_whatever_it_does(image):
    strong, still = TRANSFORMS.build(dict(type='StrongColour')), StrongColour(**NONE)
    found = []
    for transform in (strong, strong, still):
        seed_all(4)
        found.append((transform(dict(img=image))['img'], np.random.random()))
    assert np.array_equal(found[0][0], found[1][0]) and not np.array_equal(found[0][0], image)
    assert np.array_equal(found[2][0], image)
    assert found[0][1] == found[1][1] == found[2][1]


def test_probabilities_and_ranges_are_those_asked_for():
    grey = np.full((1, 1, 3), 100, np.uint8)
    transform = StrongColour(**NONE | dict(brightness=(0.25, 1.1, 1.5)))
    seed_all(0)
    values = np.array([transform(dict(img=grey))['img'][0, 0, 0] for _ in range(2000)]) / 100
    changed = values != 1
    assert abs(changed.mean() - 0.25) < 0.03
    assert values[changed].min() >= 1.1 and values[changed].max() <= 1.5 and abs(values[changed].mean() - 1.3) < 0.02


def test_rgb_images_are_changed_as_bgr_ones(image):
    seed_all(1)
    bgr = StrongColour()(dict(img=image))['img']
    seed_all(1)
    rgb = StrongColour(rgb=True)(dict(img=image[..., ::-1]))['img']
    np.testing.assert_array_equal(rgb[..., ::-1], bgr)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(hue=(2.0, 0, 1)), 'expected a probability'),
        (dict(blur=(0.5, 2.0, 1.0)), 'low <= high'),
        (dict(brightness=(0.5, -1.0, 1.0)), 'none below 0'),
        (dict(grey=-0.1), 'expected a probability'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        StrongColour(**settings)


def test_an_image_that_is_no_picture_any_more(image):
    with pytest.raises(ValueError, match=r'float32 \(12, 16, 3\), expected uint8'):
        StrongColour()(dict(img=image.astype(np.float32)))
