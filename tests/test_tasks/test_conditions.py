"""Label maps as the pictures that published ControlNets are shown."""

import numpy as np
from mmseg.datasets import ADE20KDataset

from mmdiff2in1.tasks import Depth, SemanticSegmentation, SurfaceNormal


def test_classes_are_drawn_in_the_palette():
    palette = ADE20KDataset.METAINFO['palette']
    array = np.array([[0, 149], [255, 1]], np.uint8)
    picture = SemanticSegmentation(150, palette=palette).condition(array)
    # wall, flag; not known, building: the colours of sd-controlnet-seg
    np.testing.assert_array_equal(picture, [[[120, 120, 120], [92, 0, 255]], [[0, 0, 0], [180, 120, 120]]])
    assert picture.dtype == np.uint8


def test_depth_is_drawn_as_inverse_depth_from_the_farthest_to_the_nearest():
    metres = np.array([[1.0, 2.0, 4.0], [0.0, 4 / 3, 1.0]], np.float32)
    # 1/d is 1, 1/2, 1/4 and 3/4; (1/d - 1/4) / (3/4) is 1, 1/3, 0 and 2/3.
    expected = np.array([[255, 85, 0], [0, 170, 255]], np.uint8)
    for task in (Depth(), Depth(80.0, units_per_metre=256.0)):
        picture = task.condition(metres)
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, np.repeat(expected[..., None], 3, -1))
    np.testing.assert_array_equal(Depth().condition(metres * 2), picture)  # whatever the unit
    assert Depth().condition(np.full((2, 2), 3, np.float32)).min() == 255
    assert not Depth().condition(np.zeros((2, 2), np.float32)).any()


def test_normals_are_drawn_with_red_left_green_up_and_blue_towards_the_viewer():
    vectors = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [-0.6, 0, 0.8], [0, 0, 0]]], np.float32)
    expected = [[[255, 128, 128], [128, 255, 128], [128, 128, 255], [51, 128, 230], [0, 0, 0]]]
    picture = SurfaceNormal().condition(vectors)
    np.testing.assert_array_equal(picture, expected)
    # sd-controlnet-normal takes the gradient of inverse depth: a wall on the right comes nearer to the right, and
    # faces left; the floor comes nearer downwards, and faces up. Both are positive there and here.
    inverse = 1 / np.array([4.0, 3.0, 2.0])
    assert np.diff(inverse).min() > 0 and picture[0, 0, 0] > 128
