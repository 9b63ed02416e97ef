"""Curves of a run: what is read from mmengine's logs, and that it is drawn."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mmdiff2in1.training.chain import draw_curves
from mmdiff2in1.visualization import curve_picture, read_scalars


def write(folder, *entries):
    file = folder / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(json.dumps(entry) if isinstance(entry, dict) else entry for entry in entries))
    return file


def train(step, **values):
    return dict(lr=0.1, data_time=0.0, loss=1.0 / step, time=0.2, iter=step, memory=3, step=step) | values


def test_starts_of_a_run_are_joined_and_the_later_counts(tmp_path):
    write(tmp_path / '20250101_000000', train(1), train(2), train(3), '{"loss": 1, "st')
    write(tmp_path / '20250101_010000', train(3, loss=9.0), train(4), dict(mIoU=50.0, step=4), '')
    curves = read_scalars(tmp_path)
    assert curves['loss'] == ([1, 2, 3, 4], [1.0, 0.5, 9.0, 0.25])
    assert curves['mIoU'] == ([4], [50.0])


def test_a_single_file_and_nothing(tmp_path):
    assert read_scalars(write(tmp_path / 'a', dict(loss=2.0, iter=7)))['loss'] == ([7], [2.0])
    with pytest.raises(FileNotFoundError, match='expected a scalars.json or a work dir'):
        read_scalars(tmp_path / 'none')


def test_self_improving_run_has_all_four_panels(tmp_path):
    names = {'real/decode.loss_ce': 0.5, 'synthetic/decode.loss_ce': 0.7, 'real/decode.acc_seg': 80.0}
    names |= {'kept_share/depth': 0.6, 'ema_updates': 3}
    scores = {'mIoU': 40.0, 'exploiter/mIoU': 39.0, 'data_time': 0.1, 'time': 0.1}
    lone = dict(depth_of_one=1.0, step=5)
    write(tmp_path / '0', *(train(step, **names) for step in range(1, 6)), scores | dict(step=4), scores | lone)
    out = tmp_path / 'pictures' / 'curves.png'
    panels = curve_picture(read_scalars(tmp_path), out, title='run')
    assert panels == ['losses', 'kept share of pseudo labels', 'EMA updates', 'scores, %']
    image = np.asarray(Image.open(out).convert('RGB')).reshape(-1, 3)
    assert len(np.unique(image, axis=0)) > 20  # lines in colour, not an empty page
    assert curve_picture(read_scalars(tmp_path), out) == panels


def test_plain_run_has_losses_and_scores_only(tmp_path):
    own, scores = {'decode.loss_ce': 1.0, 'decode.acc_seg': 3.0}, dict(mIoU=1.0, aAcc=2.0)
    write(tmp_path / '0', *(each for n in (1, 2) for each in (train(n, **own), scores | dict(step=n))))
    assert curve_picture(read_scalars(tmp_path), tmp_path / 'a.png') == ['losses', 'scores, %']


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match=r"nothing to draw: found \['lr'\]"):
        curve_picture({'lr': ([1], [1.0])}, tmp_path / 'a.png')
    assert not (tmp_path / 'a.png').exists()


def test_one_value_is_drawn_where_there_is_no_curve(tmp_path):
    curves = {'lr': ([1, 2], [1.0, 1.0]), 'loss': ([1], [3.0])}
    assert curve_picture(curves, tmp_path / 'a.png') == ['losses']
    curves['kept_share/depth'] = ([1, 2], [0.5, 0.6])
    assert curve_picture(curves, tmp_path / 'a.png') == ['kept share of pseudo labels']


def test_scores_of_several_tasks_and_units_have_a_panel_each(tmp_path):
    """Metres, degrees, shares and per cent share no axis; nor does what nobody knows the unit of."""
    scores = {'mIoU': 40.0, 'exploiter/mIoU': 39.0, 'aAcc': 90.0, 'own/level': 1.0, 'own/depth_of_one': 2.0}
    scores |= {'depth/rmse': 0.5, 'exploiter/depth/rmse': 0.6, 'depth/d1': 0.9, 'normal/mean': 12.0}
    write(tmp_path / '0', *(each for step in (1, 2) for each in (train(step), scores | dict(step=step))))
    panels = curve_picture(read_scalars(tmp_path), tmp_path / 'a.png')
    depth, own = ['depth: scores, share of pixels', 'depth: scores, m'], ['own: depth_of_one', 'own: level']
    assert panels == ['losses', 'scores, %', *depth, 'normal: scores, °', *own]
    assert Image.open(tmp_path / 'a.png').width == 2 * 880  # more than four panels stand in two columns


def test_a_legend_names_figures_and_its_panel_their_task(tmp_path, drawn):
    curves = {'depth/rmse': ([1, 2], [0.5, 0.4]), 'exploiter/depth/rmse': ([1, 2], [0.6, 0.5])}
    curves['real/depth.loss'] = ([1, 2], [3.0, 2.0])
    assert curve_picture(curves, tmp_path / 'a.png', control=curves) == ['losses', 'depth: scores, m']
    assert [label for label, *_ in drawn] == ['real/depth.loss', 'rmse θ_C', 'rmse control', 'rmse θ_E']


@pytest.fixture
def drawn(monkeypatch):
    """Label, style, colour and points of each line, and the label of its axis, as they are drawn."""
    lines = []
    before = Figure.savefig

    def seen(figure, *args, **kwargs):
        for axes in figure.axes:
            legend = axes.get_legend()
            named = [text.get_text() for text in legend.get_texts()] if legend else []
            for line in axes.lines:
                assert line.get_label() in named
                x, y = line.get_data()
                lines.append((line.get_label(), line.get_linestyle(), line.get_color(), [*x], [*y], axes.get_ylabel()))
        return before(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', seen)
    return lines


def test_the_scores_of_a_control_are_dotted_beside_those_of_the_run(tmp_path, drawn):
    steps = [2, 4]
    curves = {'loss': (steps, [2.0, 1.0]), 'mIoU': (steps, [30.0, 40.0]), 'exploiter/mIoU': (steps, [29.0, 38.0])}
    curves |= {'aAcc': (steps, [80.0, 81.0])}
    control = {'loss': (steps, [3.0, 2.0]), 'mIoU': (steps, [20.0, 25.0]), 'exploiter/mIoU': (steps, [1.0, 2.0])}
    control |= {'mAcc': (steps, [5.0, 6.0]), 'aAcc': ([2], [70.0])}  # the run has no mAcc, and one value is no curve
    assert curve_picture(curves, tmp_path / 'a.png', control=control) == ['losses', 'scores, %']
    assert drawn == [
        ('loss', '-', 'C0', steps, [2.0, 1.0], ''),
        ('aAcc', '-', 'C0', steps, [80.0, 81.0], '%'),
        ('mIoU θ_C', '-', 'C1', steps, [30.0, 40.0], '%'),
        ('mIoU control', ':', 'C1', steps, [20.0, 25.0], '%'),
        ('mIoU θ_E', '--', 'C1', steps, [29.0, 38.0], '%'),
    ]


def test_a_work_dir_is_drawn_with_its_control(tmp_path, drawn):
    """The self-improving stage of a chain, the folder itself of a plain training."""
    for folder, level in (('run/self_improving', 40.0), ('control/self_improving', 20.0), ('plain', 10.0)):
        scores = (dict(mIoU=level + step, step=step) for step in (1, 2))
        write(tmp_path / folder / '0', *scores)
    draw_curves(tmp_path / 'run', tmp_path / 'control')
    draw_curves(tmp_path / 'run', tmp_path / 'plain')
    assert [(label, y) for label, *_, y, _ in drawn] == [
        ('mIoU', [41.0, 42.0]), ('mIoU control', [21.0, 22.0]), ('mIoU', [41.0, 42.0]), ('mIoU control', [11.0, 12.0])
    ]  # fmt: skip
    drawn.clear()
    draw_curves(tmp_path / 'plain', tmp_path / 'none')
    assert [(label, y) for label, *_, y, _ in drawn] == [('mIoU', [11.0, 12.0])]
    assert (tmp_path / 'run/curves.png').is_file() and (tmp_path / 'plain/curves.png').is_file()
