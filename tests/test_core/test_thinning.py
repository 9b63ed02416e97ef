"""Thinning and region borders against loops over pixels, and on figures of which the answer is known."""

import numpy as np

from mmdiff2in1.core.region_borders import region_borders
from mmdiff2in1.core.thinning import thin


def picture(text):
    return np.array([[char == '#' for char in line] for line in text.split()])


def slow_thin(mask):
    """Guo and Hall's conditions, pixel by pixel."""
    mask = np.pad(mask, 1).astype(int)
    while True:
        start = mask.copy()
        for second in (False, True):
            gone = []
            for y, x in np.argwhere(mask):
                e, w = mask[y, x + 1], mask[y, x - 1]
                n, s = mask[y - 1, x], mask[y + 1, x]
                ne, nw, sw, se = mask[y - 1, x + 1], mask[y - 1, x - 1], mask[y + 1, x - 1], mask[y + 1, x + 1]
                parts = sum(not a and (b or c) for a, b, c in ((e, ne, n), (n, nw, w), (w, sw, s), (s, se, e)))
                pairs = (e | ne) + (n | nw) + (w | sw) + (s | se), (ne | n) + (nw | w) + (sw | s) + (se | e)
                side = ((sw | s | (1 - nw)) & w) if second else ((ne | n | (1 - se)) & e)
                if parts == 1 and min(pairs) in (2, 3) and not side:
                    gone.append((y, x))
            for pixel in gone:
                mask[pixel] = 0
        if (mask == start).all():
            return mask[1:-1, 1:-1].astype(bool)


def test_thinning_equals_a_loop():
    generator = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.7, 0.9):
        mask = generator.random((14, 17)) < share
        np.testing.assert_array_equal(thin(mask), slow_thin(mask))
    np.testing.assert_array_equal(thin(np.ones((9, 12), bool)), slow_thin(np.ones((9, 12), bool)))


def test_thin_lines_stay_and_thick_ones_become_thin():
    cross = picture('..#.. ..#.. ##### ..#.. ..#..')
    np.testing.assert_array_equal(thin(cross), cross)
    bar = np.zeros((9, 20), bool)
    bar[3:6, 2:18] = True
    line = thin(bar)
    assert (line.sum(0) <= 1).all() and line[4].sum() == line.sum() >= 13
    ring = np.ones((12, 12), bool)
    ring[5:7, 5:7] = False
    thinned = thin(ring)
    assert 8 <= thinned.sum() < 40 and not thinned[5:7, 5:7].any()
    np.testing.assert_array_equal(thin(thinned), thinned)
    assert not thin(np.zeros((3, 4), bool)).any()


def test_region_borders_by_hand():
    labels = np.array([[1, 1, 2], [1, 1, 2], [3, 1, 1]])
    # (0, 0) has equal neighbours; (1, 2) differs in the south; last row and column look east and south only.
    np.testing.assert_array_equal(region_borders(labels), picture('.#. ### #..'))


def test_region_borders_equal_a_loop():
    labels = np.random.default_rng(1).integers(0, 3, (11, 9)).repeat(2, 0)
    known = np.random.default_rng(2).random(labels.shape) > 0.2
    height, width = labels.shape
    for mask in (None, known):
        expected = np.zeros(labels.shape, bool)
        for y in range(height):
            for x in range(width):
                for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                    if v < height and u < width and labels[v, u] != labels[y, x]:
                        expected[y, x] |= mask is None or (mask[y, x] and mask[v, u])
        np.testing.assert_array_equal(region_borders(labels, mask), expected)


def test_a_line_of_one_pixel_stays_one_and_of_two_becomes_two():
    labels = np.zeros((12, 12))
    labels[:, 6] = 1
    one = thin(region_borders(labels))
    assert (one[1:-1].sum(1) == 1).all()
    labels[:, 6:9] = 1
    assert (thin(region_borders(labels))[1:-1].sum(1) == 2).all()
