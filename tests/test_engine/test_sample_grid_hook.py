"""The grid of created images: an independent loop over cells."""

import numpy as np
import pytest

from mmdiff2in1.pretraining.sample_grid_hook import grid


@pytest.mark.parametrize(('count', 'shape'), [(6, (2, 4)), (8, (2, 4)), (3, (1, 3)), (1, (1, 1)), (9, (3, 4))])
def test_images_row_by_row_and_grey_where_the_last_row_ends(count, shape):
    images = np.random.default_rng(0).integers(0, 256, (count, 5, 7, 3), dtype=np.uint8)
    made = grid(images, columns=4)
    assert made.dtype == np.uint8 and made.shape == (5 * shape[0], 7 * shape[1], 3)
    for cell in range(shape[0] * shape[1]):
        row, column = divmod(cell, shape[1])
        found = made[5 * row : 5 * row + 5, 7 * column : 7 * column + 7]
        assert np.array_equal(found, images[cell]) if cell < count else (found == 128).all()
