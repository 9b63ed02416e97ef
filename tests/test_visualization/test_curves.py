"""Curves of a run: what is read from mmengine's logs, and that it is drawn."""

import json

import numpy as np
import pytest
from PIL import Image

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
    assert panels == ['losses', 'kept share of pseudo labels', 'EMA updates', 'scores (θ_C solid, θ_E dashed)']
    image = np.asarray(Image.open(out).convert('RGB')).reshape(-1, 3)
    assert len(np.unique(image, axis=0)) > 20  # lines in colour, not an empty page
    assert curve_picture(read_scalars(tmp_path), out) == panels


def test_plain_run_has_losses_and_scores_only(tmp_path):
    own, scores = {'decode.loss_ce': 1.0, 'decode.acc_seg': 3.0}, dict(mIoU=1.0, aAcc=2.0)
    write(tmp_path / '0', *(each for n in (1, 2) for each in (train(n, **own), scores | dict(step=n))))
    assert curve_picture(read_scalars(tmp_path), tmp_path / 'a.png') == ['losses', 'scores (θ_C solid, θ_E dashed)']


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match=r"nothing to draw: found \['lr'\]"):
        curve_picture({'lr': ([1], [1.0])}, tmp_path / 'a.png')
    assert not (tmp_path / 'a.png').exists()


def test_one_value_is_drawn_where_there_is_no_curve(tmp_path):
    curves = {'lr': ([1, 2], [1.0, 1.0]), 'loss': ([1], [3.0])}
    assert curve_picture(curves, tmp_path / 'a.png') == ['losses']
    curves['kept_share/depth'] = ([1, 2], [0.5, 0.6])
    assert curve_picture(curves, tmp_path / 'a.png') == ['kept share of pseudo labels']


def test_scores_of_several_tasks_have_a_panel_each(tmp_path):
    """Metres and degrees share no axis."""
    scores = {'mIoU': 40.0, 'exploiter/mIoU': 39.0, 'depth/rmse': 0.5, 'exploiter/depth/rmse': 0.6, 'normal/mean': 12.0}
    write(tmp_path / '0', *(each for step in (1, 2) for each in (train(step), scores | dict(step=step))))
    panels = curve_picture(read_scalars(tmp_path), tmp_path / 'a.png')
    plain = 'scores (θ_C solid, θ_E dashed)'
    assert panels == ['losses', f'depth: {plain}', plain, f'normal: {plain}']
