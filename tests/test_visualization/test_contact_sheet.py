"""Contact sheets: every pixel where it belongs."""

import numpy as np
import pytest

from mmdiff2in1.tasks import Edges, SemanticSegmentation
from mmdiff2in1.visualization import (
    Created,
    Perceived,
    contact_sheet,
    creation_panel,
    prediction_panel,
    sheet_layout,
    side_by_side,
)
from mmdiff2in1.visualization.contact_sheet import EMPTY, INK, LINE, MARGIN, PAPER, SWATCH


def picture(seed, height=40, width=64):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def at(sheet, layout, row, column):
    y, x = layout.origin(row, column)
    return sheet[y : y + layout.cell[0], x : x + layout.cell[1]]


def test_plain_sheet_in_closed_form():
    a, b, c = picture(0), picture(1), picture(2)
    sheet = contact_sheet([[a, b], [c, None]], scale=1)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (3 * MARGIN + 80, 3 * MARGIN + 128, 3)
    assert np.array_equal(sheet[8:48, 8:72], a)
    assert np.array_equal(sheet[8:48, 80:144], b)
    assert np.array_equal(sheet[56:96, 8:72], c)
    assert (sheet[56:96, 80:144] == EMPTY).all()
    paper = np.ones(sheet.shape[:2], bool)
    for y in (8, 56):
        for x in (8, 80):
            paper[y : y + 40, x : x + 64] = False
    assert (sheet[paper] == PAPER).all()


def test_tiny_pictures_are_enlarged_pixel_by_pixel():
    tiny = picture(0, 5, 7)
    sheet = contact_sheet([[tiny]])
    layout = sheet_layout([[tiny]])
    assert layout.scale == 19  # 7 · 19 = 133 is the first multiple of 7 at or above 128
    assert np.array_equal(at(sheet, layout, 0, 0)[::19, ::19], tiny)
    assert np.array_equal(at(sheet, layout, 0, 0)[18::19, 18::19], tiny)
    assert sheet_layout([[picture(0, 200, 100)]]).scale == 1


def test_captions_move_the_pictures_and_do_not_touch_them():
    rows = [[picture(0, 128, 128), picture(1, 128, 128)], [picture(2, 128, 128), picture(3, 128, 128)]]
    captions = dict(row_captions=['short', 'a long caption ' * 8], column_captions=['left', 'right'], title='T')
    sheet, layout = contact_sheet(rows, **captions), sheet_layout(rows, **captions)
    assert layout.origin(0, 0) == (MARGIN + 2 * LINE, MARGIN)
    assert layout.origin(1, 1) == (MARGIN + 2 * LINE + 128 + MARGIN + LINE, MARGIN + 128 + MARGIN)
    lines = layout.footers[1] // LINE
    assert layout.footers[0] == LINE
    assert lines > 1
    assert sheet.shape[0] == layout.origin(1, 0)[0] + 128 + MARGIN + lines * LINE
    for row in range(2):
        for column in range(2):
            assert np.array_equal(at(sheet, layout, row, column), rows[row][column])
    y, _ = layout.origin(0, 0)
    title, columns = sheet[MARGIN : MARGIN + LINE], sheet[y - LINE : y]
    under_first, under_second = sheet[y + 128 : y + 128 + LINE], sheet[layout.origin(1, 0)[0] + 128 :]
    for band in (title, columns[:, : MARGIN + 128], columns[:, MARGIN + 128 :], under_first, under_second):
        assert (band < 128).any()
        assert (band == PAPER).all(axis=2).any()
    assert INK not in [PAPER, EMPTY]


def test_text_never_leaves_the_sheet():
    sheet = contact_sheet(
        [[picture(0, 128, 128)]], row_captions=['x' * 500], column_captions=['y' * 500], title='z' * 500
    )
    assert (sheet[:, -MARGIN:] == PAPER).all()
    assert sheet.shape[0] < 250


def test_smaller_pictures_stand_at_the_upper_left():
    big, small = picture(0, 130, 140), picture(1, 30, 20)
    sheet, layout = contact_sheet([[big, small]]), sheet_layout([[big, small]])
    assert np.array_equal(at(sheet, layout, 0, 1)[:30, :20], small)
    assert (at(sheet, layout, 0, 1)[30:] == PAPER).all()


def test_equal_input_gives_equal_sheets():
    rows = [[picture(0)]]
    assert np.array_equal(contact_sheet(rows, row_captions=['ü']), contact_sheet(rows, row_captions=['ü']))


@pytest.mark.parametrize(
    ('rows', 'captions', 'message'),
    [
        ([], {}, 'at least one picture'),
        ([[None]], {}, 'at least one picture'),
        ([[picture(0)], [picture(0), None]], {}, r'rows hold \[1, 2\] pictures'),
        ([[picture(0)]], dict(row_captions=['a', 'b']), '2 row captions for 1 rows'),
        ([[picture(0)]], dict(row_legends=[]), '0 row legends for 1 rows'),
        ([[picture(0)]], dict(column_captions=[]), '0 column captions for 1 columns'),
        ([[picture(0) / 255]], {}, 'picture is float64'),
        ([[picture(0)[..., 0]]], {}, r'picture is uint8 \(40, 64\)'),
    ],
)
def test_bad_input(rows, captions, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(rows, **captions)


TASK = SemanticSegmentation(2, palette=[[10, 20, 30], [200, 100, 0]], classes=('floor', 'bed'))


def test_long_column_captions_break_into_lines():
    rows, captions = [[picture(0, 128, 128)] * 2], ['depth', 'semantic segmentation']
    sheet, layout = contact_sheet(rows, column_captions=captions), sheet_layout(rows, column_captions=captions)
    assert layout.header == 2 * LINE
    y, x = layout.origin(0, 0)
    assert (sheet[: y - LINE, : x + 128] == PAPER).all() and (sheet[y - LINE : y, : x + 128] != PAPER).any()
    assert (sheet[y - 2 * LINE : y - LINE, x + 128 + MARGIN :] != PAPER).any()


def test_legends_stand_under_captions_and_break_into_lines():
    rows, red, blue = [[picture(0, 128, 128)], [picture(1, 128, 128)]], (200, 0, 0), (0, 0, 200)
    legends = [[('a', red), ('b', blue)], [('a long name ' * 2, red), ('b', blue)]]
    given = dict(row_captions=['one', 'two'], row_legends=legends)
    sheet, layout = contact_sheet(rows, **given), sheet_layout(rows, **given)
    # Of the second row each entry has a line of its own: 128 + 2 · 8 pixels hold one.
    assert layout.footers == (2 * LINE, 3 * LINE) and sheet.shape[:2] == layout.size
    y = layout.origin(0, 0)[0] + 128 + 1 + LINE + 3
    square = sheet[y + 1 : y + SWATCH, MARGIN + 1 : MARGIN + SWATCH]
    assert (square == red).all()
    below = layout.origin(1, 0)[0] + 128 + 1 + LINE + 3
    for line, colour in enumerate((red, blue)):
        y = below + line * LINE
        assert (sheet[y + 1 : y + SWATCH, MARGIN + 1 : MARGIN + SWATCH] == colour).all()


def test_prediction_panel():
    image, truth = picture(0, 128, 128), np.zeros((128, 128), np.uint8)
    rows = [Perceived(image, truth, [truth, truth + 1], 'a'), Perceived(image, None, [truth + 1, truth], 'b')]
    sheet = prediction_panel(rows, TASK, ['θ_C', 'θ_E'], title='scenes')
    # The second row has no truth: its last prediction is in the legend.
    legend = [('0 floor 100.0%', (10, 20, 30))]
    layout = sheet_layout(
        [[image] * 4] * 2, row_captions='ab', row_legends=[[], legend], column_captions=[''] * 4, title='scenes'
    )
    assert sheet.shape[:2] == layout.size
    assert np.array_equal(at(sheet, layout, 1, 0), image)
    assert (at(sheet, layout, 0, 1) == (10, 20, 30)).all()
    assert (at(sheet, layout, 0, 3) == (200, 100, 0)).all()
    assert (at(sheet, layout, 1, 1) == EMPTY).all()
    with pytest.raises(ValueError, match='2 predictions for 1 models'):
        prediction_panel(rows, TASK)


def test_prediction_panel_of_several_tasks_has_a_legend_for_each():
    image, truth = picture(0, 128, 128), np.array([[0, 1]], np.uint8).repeat(64, 1).repeat(128, 0)
    edge = np.zeros((128, 128), np.float32)
    rows = [Perceived(image, truth, [truth], 'room.png'), Perceived(image, edge, [edge + 1])]
    sheet = prediction_panel(rows, [TASK, Edges()])
    expected = contact_sheet(
        [[image, TASK.colours(truth), TASK.colours(truth)], [image, Edges().colours(edge), Edges().colours(edge + 1)]],
        row_captions=['semantic segmentation · room.png', 'edge'],
        row_legends=[TASK.legend(truth), Edges().legend(edge)],
        column_captions=['image', 'ground truth', 'prediction'],
    )
    np.testing.assert_array_equal(sheet, expected)
    with pytest.raises(ValueError, match='zip'):
        prediction_panel(rows, [TASK])


def test_a_legend_of_many_classes_is_cut():
    task, truth = SemanticSegmentation(40), np.arange(40, dtype=np.uint8).reshape(5, 8)
    image = picture(0, 5, 8)
    sheet = prediction_panel([Perceived(image, truth, [truth])], task)
    legend = [*task.legend(truth)[:16], ('and 24 more', PAPER)]
    expected = contact_sheet(
        [[image, *[task.colours(truth)] * 2]],
        row_legends=[legend],
        column_captions=['image', 'ground truth', 'prediction'],
    )
    np.testing.assert_array_equal(sheet, expected)


def test_creation_panel():
    real, synthetic, label = picture(0, 128, 128), picture(1, 128, 128), np.ones((128, 128), np.uint8)
    sheet = creation_panel([Created(real, synthetic, label), Created(real, synthetic, None)], TASK)
    legend = [('1 bed 100.0%', (200, 100, 0))]
    layout = sheet_layout([[real] * 3] * 2, row_legends=[[], legend], column_captions=['', '', ''])
    assert sheet.shape[:2] == layout.size
    assert np.array_equal(at(sheet, layout, 0, 1), synthetic)
    assert (at(sheet, layout, 0, 2) == (200, 100, 0)).all()
    assert (at(sheet, layout, 1, 2) == EMPTY).all()


def test_created_from_nothing():
    """No column of real images where there are none, and columns by the names that are asked for."""
    synthetic, label = picture(1, 128, 128), np.ones((128, 128), np.uint8)
    sheet = creation_panel([Created(None, synthetic, label)] * 2, TASK, columns=('source', 'created', 'label'))
    expected = contact_sheet(
        [[synthetic, TASK.colours(label)]] * 2,
        row_legends=[[], [('1 bed 100.0%', (200, 100, 0))]],
        column_captions=['created', 'label'],
    )
    np.testing.assert_array_equal(sheet, expected)


def test_sheets_side_by_side():
    high, low = np.full((5, 2, 3), 7, np.uint8), np.full((3, 4, 3), 9, np.uint8)
    both = side_by_side([high, low])
    assert both.shape == (5, 2 + 24 + 4 + 24, 3) and both.dtype == np.uint8
    assert (both[:, :2] == 7).all() and (both[:3, 26:30] == 9).all()
    assert (both[:, 2:26] == 255).all() and (both[3:, 26:] == 255).all()
