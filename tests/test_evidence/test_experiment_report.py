"""Tables and plots of the evidence page: numbers by hand, pairing by seed, which way is better, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import report
from evidence import plots
from evidence.runs import read_runs
from evidence.tables import tables
from PIL import Image

from mmdiff2in1.training import paired

CONTROL, LOOP = 'real + EMA', 'Diff-2-in-1'
KEYS = {'normal': 'mean', 'semantic_segmentation': 'mIoU', 'depth': 'rmse'}


def line(arm=CONTROL, seed=0, score=15.0, *, task='normal', labels=60, block='main', **other):
    """A run whose score on val is one lower than `score`, the one on test."""
    key = KEYS[task]
    entry = {
        'set': 'scenes',
        'task': task,
        'labels': labels,
        'seed': seed,
        'arm': arm,
        'block': block,
        'settings': {},
        'val': {key: score - 1},
        'test': None if block == 'knobs' else {key: score, 'other': math.nan},
        'curve': {'step': [0, 50], 'val': [20.0, score - 1]},
    }
    return entry | other


def write(path, *lines):
    path.write_text(''.join(json.dumps(entry) + '\n' for entry in lines))
    return path


@pytest.fixture
def read(tmp_path):
    """read(*lines) → runs, through a file."""
    return lambda *lines: read_runs(write(tmp_path / 'runs.jsonl', *lines))


def table(runs, name='scenes-normal-60'):
    """Rows of cells, first the header, and the caption."""
    text = tables(runs)[name]()
    *rows, _, caption = text.split('\n')
    cells = [[cell.strip() for cell in row.strip('|').split(' | ')] for row in rows]
    assert set(cells.pop(1)) == {':--', '--:'}
    return cells, caption


# Control 15, 16, 17 on seeds 0, 1, 2; the loop is 1, 2, 3 lower.
THREE = [line(CONTROL, s, 15.0 + s) for s in range(3)] + [line(LOOP, s, 14.0) for s in range(3)]


# --- statistics ----------------------------------------------------------------------------------------------------


def test_t_test_of_two_three_and_five_pairs_has_the_closed_forms():
    def p(*differences):
        control = {seed: 10.0 * seed for seed in range(len(differences))}
        return paired.compare({seed: control[seed] + d for seed, d in enumerate(differences)}, control).p

    t = 2 / (1 / math.sqrt(3))  # mean 2, std 1
    assert p(1, 2, 3) == pytest.approx(1 - t / math.sqrt(t**2 + 2)) == pytest.approx(0.0742, abs=5e-5)
    assert p(-1, -2, -3) == pytest.approx(p(1, 2, 3))
    assert p(1, 3) == pytest.approx(1 - 2 / math.pi * math.atan(2))  # mean 2, std √2, t = 2
    t = 3 / math.sqrt(2.5 / 5)  # of 1 … 5
    x = t**2 / (1 + t**2 / 4)
    assert p(1, 2, 3, 4, 5) == pytest.approx(2 * (0.5 - 3 / 8 * math.sqrt(x) * (1 - x / 12)))
    assert p(-1, 0, 1) == pytest.approx(1)


@pytest.mark.filterwarnings('error')
def test_equal_differences_and_too_few_pairs_have_no_p():
    # 15.3 − 15.1 and 15.4 − 15.2 differ by a rounding error, which is no spread.
    equal = paired.compare({0: 15.3, 1: 15.4}, {0: 15.1, 1: 15.2})
    assert equal.p is None and equal.spread.mean == pytest.approx(0.2) and equal.spread.std == pytest.approx(0)
    assert paired.compare({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p is None
    one, none = paired.compare({3: 2.0}, {3: 1.5, 4: 9.0}), paired.compare({3: 2.0}, {4: 9.0})
    assert (one.p, one.by_seed, one.spread) == (None, {3: 0.5}, paired.Spread(0.5, None, 1))
    assert (none.p, none.by_seed, none.spread) == (None, {}, paired.Spread(None, None, 0))


# --- tables --------------------------------------------------------------------------------------------------------


def test_arms_table_by_hand(read):
    rows, caption = table(read(*THREE))
    assert rows == [
        ['Arm', 'mean angular error', 'difference by seed', 'mean difference', 'p', 'n'],
        [CONTROL, '16.00 ± 1.00', '–', '–', '–', '3'],
        [LOOP, '14.00 ± 0.00', '−1.00, −2.00, −3.00', '−2.00 ± 1.00', '0.074', '3'],
    ]
    assert 'in degrees on test, lower is better' in caption and 'seeds 0–2.' in caption
    assert 'below zero the arm is better' in caption and 'not corrected for multiple comparisons' in caption
    assert 'θ_E' not in caption


def test_a_seed_that_one_of_two_lacks_is_left_out_of_the_pair(read):
    extra = [line(CONTROL, 5, 99.0), line(LOOP, 7, 18.0), line('self-distillation', 7, 12.0)]
    rows, caption = table(read(*THREE, *extra))
    assert [row[0] for row in rows[1:]] == [CONTROL, 'self-distillation', LOOP]
    assert rows[1][-1] == '4'
    assert rows[2][1:] == ['12.00 ± –', '–', '–', '–', '0 of 1']
    # The score is that of all its seeds, the difference that of the pairs.
    assert rows[3][1:] == ['15.00 ± 2.00', '−1.00, −2.00, −3.00, –, –', '−2.00 ± 1.00', '0.074', '3 of 4']
    assert 'seeds 0, 1, 2, 5, 7.' in caption and '"a of b"' in caption


def test_one_pair_has_neither_spread_nor_p(read):
    rows, caption = table(read(line(), line(LOOP, score=14.5)))
    assert rows[2] == [LOOP, '14.50 ± –', '−0.50', '−0.50 ± –', '–', '1']
    assert 'over seed 0.' in caption


def test_rows_stand_in_the_order_of_the_arms_then_by_name(read):
    arms = ['zeta', 'synthetic only', 'unlabelled', 'real only', 'alpha | 2', LOOP, CONTROL]
    rows, caption = table(read(*(line(arm) for arm in arms)))
    assert [row[0] for row in rows[1:]] == [
        'real only', CONTROL, LOOP, 'unlabelled', 'synthetic only', r'alpha \| 2', 'zeta',
    ]  # fmt: skip
    assert rows[1][2] == '0.00'  # what is nothing has no sign
    assert '"real only" is scored with θ_E, every other arm with θ_C' in caption


def test_metric_part_and_direction_follow_task_and_set(read):
    camvid = {'set': 'camvid', 'block': 'camvid', 'test': None, 'task': 'semantic_segmentation'}
    runs = read(
        line(task='depth', score=1.5),
        line(LOOP, task='depth', score=1.25),
        line(val={'mIoU': 50.0}, **camvid),
        line(LOOP, val={'mIoU': 51.5}, **camvid),
    )
    rows, caption = table(runs, 'scenes-depth-60')
    assert rows[2][1:4] == ['1.250 ± –', '−0.250', '−0.250 ± –'] and 'RMSE in metres on test, lower' in caption
    rows, caption = table(runs, 'camvid-semantic_segmentation-60')
    assert rows[2][1:4] == ['51.50 ± –', '+1.50', '+1.50 ± –']
    assert 'mIoU in percent on val, higher is better' in caption and 'above zero the arm is better' in caption


def test_range_table_joins_the_main_block(read):
    more = [
        line(arm, s, score, labels=20, block='range') for s in (0, 1) for arm, score in ((CONTROL, 30 + s), (LOOP, 28))
    ]
    main_only = [line('synthetic only', s, 40.0) for s in range(3)]
    runs = read(*THREE, *more, *main_only)
    rows, caption = table(runs, 'scenes-normal-range')
    assert rows == [
        ['labels', CONTROL, LOOP],
        ['20', '30.50 ± 0.71 (n 2)', '−2.50 ± 0.71 (p 0.126, n 2)'],  # t = 5: 1 − 2/π · arctan 5
        ['60', '16.00 ± 1.00 (n 3)', '−2.00 ± 1.00 (p 0.074, n 3)'],
    ]
    assert 'seeds 0–2' in caption
    assert list(tables(runs)) == ['scenes-normal-20', 'scenes-normal-60', 'scenes-normal-range']


def test_settings_are_compared_on_val_with_references_of_their_own(read):
    knobs = [line(arm, s, 14.0 - s, block='knobs') for s in (0, 1) for arm in ('weight 3', 'T=200')]
    # References of their own, and none from the main block, which has another warm-up.
    knobs += [line(CONTROL, s, 15.0 + s, block='knobs') for s in (0, 1)]
    knobs += [line(LOOP, s, 13.5 + 0.5 * s, block='knobs') for s in (0, 1)]
    rows, caption = table(read(*THREE, *knobs), 'scenes-normal-knobs-60')
    assert rows[0] == ['Arm', 'mean angular error'] + [
        f'to {reference}, {what}' for reference in (CONTROL, LOOP) for what in ('by seed', 'mean')
    ]
    assert [row[0] for row in rows[1:]] == [CONTROL, LOOP, 'T=200', 'weight 3']
    assert rows[1][1] == '14.50 ± 0.71'  # 14 and 15
    # 13, 12 against 14, 15 and against 12.5, 13.
    t = -0.25 / (0.75 * math.sqrt(2) / math.sqrt(2))
    assert rows[3][1:4] == ['12.50 ± 0.71', '−1.00, −3.00', '−2.00 ± 1.41 (p 0.295, n 2)']
    assert rows[3][4:] == ['+0.50, −1.00', f'−0.25 ± 1.06 (p {1 - 2 / math.pi * math.atan(-t):.3f}, n 2)']
    assert 'on val, where settings are chosen' in caption and 'seeds 0, 1.' in caption


def test_a_block_without_settings_has_no_table(read):
    names = tables(read(line(), line(block='ready'), line(LOOP, block='knobs')))
    assert list(names) == ['scenes-normal-60', 'scenes-normal-knobs-60']


def test_small_p_is_not_zero(read):
    lines = [line(CONTROL, s, 20.0 + s) for s in range(5)]
    lines += [line(LOOP, s, 10.0 + s + 0.01 * (s % 2)) for s in range(5)]
    assert table(read(*lines))[0][2][4] == '<0.001'


# --- the page ------------------------------------------------------------------------------------------------------

PAGE = 'Before.\n\n<!-- table: scenes-normal-60 -->\nold, wrong\n<!-- end -->\n\nAfter.\n'


def test_filling_replaces_what_is_between_the_markers_and_only_once(tmp_path, capsys):
    runs = write(tmp_path / 'runs.jsonl', *THREE)
    page, figures = tmp_path / 'page.md', tmp_path / 'figures'
    page.write_text(PAGE)
    call = [str(runs), '--page', str(page), '--figures', str(figures)]
    report.main(call)
    assert f'written: {page}' in capsys.readouterr().out
    report.main([str(runs), '--print', 'scenes-normal-60'])
    printed = capsys.readouterr().out
    first = page.read_text(), {file.name: file.read_bytes() for file in figures.iterdir()}
    head, tail = '<!-- table: scenes-normal-60 -->', '<!-- end -->'
    assert first[0] == f'Before.\n\n{head}\n\n{printed}\n{tail}\n\nAfter.\n'
    assert set(first[1]) == {'scenes-normal-60.png', 'scenes-normal-curves.png'}

    write(runs, *reversed(THREE))  # the order of the lines is that in which trainings ended
    report.main(call)
    assert f'unchanged: {page}' in capsys.readouterr().out
    assert first == (page.read_text(), {file.name: file.read_bytes() for file in figures.iterdir()})


def test_print_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = write(tmp_path / 'runs.jsonl', *THREE)
    report.main([str(runs), '--print', 'scenes-normal-60'])
    assert list(tmp_path.iterdir()) == [runs]


def test_tables_that_the_page_lacks_are_named(tmp_path, capsys):
    runs, page = write(tmp_path / 'runs.jsonl', *THREE, line(labels=20)), tmp_path / 'page.md'
    page.write_text(PAGE)
    report.main([str(runs), '--page', str(page), '--figures', str(tmp_path)])
    assert f'tables that {page} does not show: scenes-normal-20\n' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('page', 'message'),
    [
        ('no marker at all\n', 'page.md: no marker; write <!-- table: NAME -->'),
        (PAGE.replace('-60', '-61'), "page.md:3: no table 'scenes-normal-61'; these runs give scenes-normal-60"),
        (PAGE.replace('<!-- end -->', ''), "page.md: no <!-- end --> after the marker of table 'scenes-normal-60'"),
        (
            PAGE.replace('old, wrong', '<!-- table: x -->'),
            'page.md:4: found <!-- table: x -->, expected <!-- end --> of',
        ),
        ('<!-- end -->\n' + PAGE, 'page.md:1: found <!-- end -->, expected <!-- table: NAME --> first'),
    ],
)
def test_a_page_that_cannot_be_filled_stays_as_it_is(tmp_path, monkeypatch, page, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / 'runs.jsonl', *THREE)
    Path('page.md').write_text(page)
    with pytest.raises(SystemExit, match='^error: ') as error:
        report.main(['runs.jsonl', '--page', 'page.md', '--figures', 'figures'])
    assert message in str(error.value)
    assert Path('page.md').read_text() == page and not Path('figures').exists()


# --- lines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'task': 'edges'}, "task is 'edges', known are normal, semantic_segmentation, depth"),
        ({'set': 'nyu'}, "set is 'nyu', known are scenes, camvid"),
        ({'block': 'rest'}, "block is 'rest', known are main, range, knobs, ready, finetune, camvid"),
        ({'seed': 'zero'}, "seed is 'zero', expected int"),
        ({'seed': True}, 'seed is True, expected int'),
        ({'labels': 0}, 'labels is 0, expected 1 or more'),
        ({'arm': None}, 'arm is None, expected str'),
        ({'val': {'mIoU': 1.0}}, "'mean' of val is None, expected a finite number"),
        ({'test': {'mean': math.nan}}, "'mean' of test is nan, expected a finite number"),
        ({'test': None}, "test is null, expected 'mean': the block 'main' of 'scenes' is reported on test"),
        ({'curve': {'step': [1], 'val': []}}, 'curve has 1 of step and 0 of val'),
        ({'arm': 'real only', 'exploiter': {'val': {'mean': 3.0}}}, 'val is 14.0 and that of exploiter 3.0'),
        ({'steps': {'warmup': 9, 'self_improving': 5}}, 'steps (9, 5), but line 1 of the same block has None'),
        ({'steps': {'warmup': 9}}, 'self_improving is missing, expected int'),
    ],
)
def test_a_malformed_line_is_named(read, changes, message):
    with pytest.raises(ValueError, match=r'runs\.jsonl:2: ') as error:
        read(line(), line(seed=1) | changes)
    assert message in str(error.value)


def test_a_missing_key_a_cut_line_and_an_empty_file_are_named(read, tmp_path):
    entry = line()
    del entry['seed']
    with pytest.raises(ValueError, match=r'jsonl:1: seed is missing, expected int'):
        read(entry)
    path = write(tmp_path / 'cut.jsonl', line())
    path.write_text('\n' + path.read_text() + '{"set": "sce')
    with pytest.raises(ValueError, match=r'cut\.jsonl:3: Unterminated string'):
        read_runs(path)
    path.write_text('[1]\n')
    with pytest.raises(ValueError, match=r'cut\.jsonl:1: found list, expected a JSON object'):
        read_runs(path)
    path.write_text('\n')
    with pytest.raises(ValueError, match='no runs'):
        read_runs(path)


def test_the_same_run_twice_names_both_lines_but_the_knobs_are_apart(read):
    with pytest.raises(ValueError, match=r'jsonl:3: the same run as line 1 \(scenes, normal, 60 labels, seed 0'):
        read(line(), line(LOOP), line(score=3.0, block='range'))
    assert len(read(line(), line(block='knobs'))) == 2


def test_errors_end_the_script_with_one_sentence(tmp_path):
    runs = write(tmp_path / 'runs.jsonl', *THREE)
    with pytest.raises(SystemExit, match="error: no table 'x'; these runs give scenes-normal-60"):
        report.main([str(runs), '--print', 'x'])
    with pytest.raises(SystemExit, match='error: .*No such file'):
        report.main([str(tmp_path / 'none.jsonl')])


# --- plots ---------------------------------------------------------------------------------------------------------


def points(axes):
    """Arm row → x of its dots."""
    dots = [drawn for drawn in axes.lines if drawn.get_marker() == 'o']
    return [np.round(drawn.get_xdata(), 6).tolist() for drawn in dots]


def test_a_gain_is_above_zero_where_the_arm_is_better(read):
    axes = plots.gain_plot(read(*THREE)).axes[0]
    assert points(axes) == [[1, 2, 3]]
    assert 'degrees; right is better' in axes.get_xlabel()
    percent = [entry | {'task': 'semantic_segmentation'} for entry in THREE]
    percent = [entry | {part: {'mIoU': entry[part]['mean']} for part in ('val', 'test')} for entry in percent]
    assert points(plots.gain_plot(read(*percent)).axes[0]) == [[-1, -2, -3]]


def test_an_arm_far_off_is_written_and_does_not_stretch_the_scale(read):
    far = [line('synthetic only', s, 115.0 + s) for s in range(3)]
    near = [line('unlabelled', s, 14.5 + s) for s in range(3)]
    axes = plots.gain_plot(read(*THREE, *near, *far)).axes[0]
    assert points(axes) == [[1, 2, 3], [0.5, 0.5, 0.5]]
    assert [label.get_text() for label in axes.get_yticklabels()] == [LOOP, 'unlabelled', 'synthetic only']
    assert axes.get_xlim() == pytest.approx((-0.18, 3.18))
    assert [text.get_text().strip() for text in axes.texts if text.get_text()] == ['off the scale, mean −100.00']


def test_range_plot_shows_means_and_deviations(read):
    more = [
        line(arm, s, score, labels=20, block='range') for s in (0, 1) for arm, score in ((CONTROL, 30 + s), (LOOP, 28))
    ]
    figure = plots.range_plot(read(*THREE, *more))
    axes = figure.axes[0]
    (container,) = axes.containers
    data, _, (bars,) = container
    assert data.get_xdata() == pytest.approx([20, 60]) and data.get_ydata() == pytest.approx([2.5, 2])
    heights = [segment[:, 1] for segment in bars.get_segments()]
    assert np.ptp(heights, axis=1) == pytest.approx([2 * math.sqrt(0.5), 2])
    assert axes.get_xscale() == 'log' and 'up is better' in axes.get_ylabel()
    assert plots.range_plot(read(*THREE)) is None
    assert plots.gain_plot(read(line(LOOP))) is None


def test_band_is_taken_over_the_steps_that_all_seeds_have():
    assert plots.band([((0, 50, 100), (1.0, 2.0, 3.0)), ((50, 0), (5.0, 3.0))]) == ([0, 50], [2, 3.5], [1, 2], [3, 5])


def test_curves_have_one_panel_per_arm_beside_the_control(read):
    figure = plots.curve_plot(read(*THREE, line('real only', curve=None), line('unlabelled')))
    assert [axes.get_title(loc='left') for axes in figure.axes] == [LOOP, 'unlabelled']
    control, loop = figure.axes[0].lines
    assert control.get_ydata() == pytest.approx([20, 15]) and loop.get_ydata() == pytest.approx([20, 13])
    assert 'lower is better' in figure.get_supylabel()


def test_plots_are_drawn_small_and_on_white(read, tmp_path):
    more = [line(arm, 0, 20.0, labels=20, block='range') for arm in (CONTROL, LOOP)]
    camvid = [line(arm, set='camvid', block='camvid', test=None) for arm in (CONTROL, LOOP)]
    files = plots.draw_all(read(*THREE, *more, *camvid), tmp_path / 'new')
    assert [file.name for file in files] == [
        'camvid-normal-60.png', 'camvid-normal-curves.png',
        'scenes-normal-range.png', 'scenes-normal-60.png', 'scenes-normal-curves.png',
    ]  # fmt: skip
    for file in files:
        assert file.stat().st_size < 150_000
        assert Image.open(file).convert('RGB').getpixel((0, 0)) == (255, 255, 255)
