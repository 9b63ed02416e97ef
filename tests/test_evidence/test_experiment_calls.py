"""The table of calls: which rows there are, what counts as seen, how a row is shown."""

import calls
import numpy as np

from mmdiff2in1.datasets.scenes import CLASSES


def test_rows_are_each_solver_at_each_number_of_calls_then_guidance_from_noise() -> None:
    rows = calls.settings((200, 1000))
    assert len(rows) == 2 * 2 * 5 + 2 * 2 * 3
    assert len({calls.row_key(*row) for row in rows}) == len(rows)
    assert {T for T, how in rows if how.guidance_scale != 1} == {1000}


def test_a_named_class_is_seen_on_ten_pixels() -> None:
    bed, ball = CLASSES.index('bed'), CLASSES.index('ball')
    other = next(i for i in range(len(CLASSES)) if i not in (bed, ball))
    maps = np.full((2, 8, 8), other)
    maps[0].flat[:10] = bed
    maps[1].flat[:9] = bed
    maps[1].flat[20:40] = ball
    captions = ['a red bed in a room', 'two balls and a bed in a bedside room']
    assert calls.named_seen(maps, captions) == 2 / 3


def test_a_cell_shows_kid_agreement_and_what_was_seen() -> None:
    line = dict(diffusion='g', T=200, solver='ddim', calls=4, guidance=1.0, kid=0.1234, agreement=51.26, named_seen=0.5)
    noise = dict(line, T=1000, calls=6, agreement=None)
    assert calls.table([line, noise]).splitlines() == [
        '| T | solver | guidance | 4 calls | 6 calls |',
        '| --: | :-- | --: | :-- | :-- |',
        '| 200 | ddim | 1 | 0.123 · 51.3 · 50 % | – |',
        '| 1000 | ddim | 1 | – | 0.123 · 50 % |',
    ]
