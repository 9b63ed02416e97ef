"""The draw of labels: what it takes, and what it refuses."""

import pytest

from mmdiff2in1.datasets.label_draw import draw_labelled

SAMPLES = [dict(number=number) for number in range(6)]


def drawn(count, seed=0):
    return [sample['number'] for sample in draw_labelled(SAMPLES, count, seed, 'train/images')]


def test_a_smaller_draw_is_part_of_a_larger_one():
    assert drawn(None) == drawn(6) == [0, 1, 2, 3, 4, 5]
    assert set(drawn(2, 3)) < set(drawn(4, 3)) and drawn(4, 3) == sorted(drawn(4, 3))


@pytest.mark.parametrize('count', [0, -3, 7, 2.5, True, 'abc', [2]])
def test_a_count_that_is_none(count):
    with pytest.raises(ValueError) as caught:
        drawn(count)
    assert str(caught.value) == f'num_labelled={count!r}: expected 1 to 6, the number of images in train/images'


@pytest.mark.parametrize('seed', [-1, 1.5, 'abc', None, True])
def test_a_seed_that_is_none(seed):
    with pytest.raises(ValueError) as caught:
        drawn(2, seed)
    assert str(caught.value) == f'subset_seed={seed!r}: expected an integer of 0 or more'
