"""Units and directions of figures, charts by unit, words on kept shares, distances of features."""

import math
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmdiff2in1.reporting.charts import MOST_POINTS, charts
from mmdiff2in1.reporting.created import spread_over_levels
from mmdiff2in1.reporting.feature_distance import feature_distance, frechet_distance, kernel_distance
from mmdiff2in1.reporting.kept_share import kept_share_in_words
from mmdiff2in1.reporting.scores import better_when, headlines, unit_of


@pytest.mark.parametrize(
    ('name', 'unit', 'better'),
    [
        ('mIoU', '%', 'higher'),
        ('exploiter/human_parts/IoU.upper_arms', '%', 'higher'),
        ('depth/rmse', 'm', 'lower'),
        ('rmse', 'm', 'lower'),
        ('normal/rmse', '°', 'lower'),
        ('mean', '°', 'lower'),
        ('normal/below_11.25', '%', 'higher'),
        ('depth/d1', 'share of pixels', 'higher'),
        ('saliency/maxF', '%', 'higher'),
        ('saliency/threshold', '', ''),
        ('my_own', '', ''),
    ],
)
def test_units(name, unit, better):
    assert (unit_of(name), better_when(name)) == (unit, better)


def test_headline_of_each_task():
    metrics = dict.fromkeys(
        ['aAcc', 'mIoU', 'exploiter/mIoU', 'depth/abs_rel', 'depth/rmse', 'normal/median', 'normal/mean'], 1.0
    )
    assert headlines(metrics) == ['mIoU', 'depth/rmse', 'normal/mean']
    assert headlines({'my_own': 1.0, 'other': 2.0}) == ['my_own']


def test_one_chart_for_each_unit():
    two = ([10, 20], [1.0, 2.0])
    curves = {
        'loss': ([1, 2], [3.0, math.nan]),
        'real/decode.loss_ce': ([1, 2], [3.0, 2.0]),
        'synthetic/decode.loss_ce': ([1, 2], [0.3, 0.2]),
        'mIoU': two,
        'exploiter/mIoU': two,
        'depth/rmse': two,
        'depth/d1': two,
        'depth/threshold': two,
        'normal/mean': ([10], [4.0]),
        'kept_share/depth': ([1, 2, 3], [0.1, 0.2, 0.3]),
    }
    found = charts(curves, {'mIoU': two})
    assert [(chart.title, [(line.name, line.dash) for line in chart.lines]) for chart in found] == [
        ('Losses', [('loss_ce, real', 'solid'), ('loss_ce, created', 'dashed')]),
        ('Kept share of pseudo labels', [('depth', 'solid')]),
        ('Validation: depth, share of pixels', [('d1', 'solid')]),
        ('Validation: depth, m', [('rmse', 'solid')]),
        ('Validation, %', [('mIoU θ_C', 'solid'), ('mIoU θ_E', 'dashed'), ('mIoU control', 'dotted')]),
    ]
    assert found[0].lines[0].colour == found[0].lines[1].colour
    ids = [name for chart in found for name in re.findall(r' id="([^"]*)"', chart.svg)]
    assert len(set(ids)) == len(ids)
    assert all('currentColor' in chart.svg and '://' not in chart.svg for chart in found)


def test_lone_values_are_told_and_not_drawn():
    (chart,) = charts({'mIoU': ([1, 2], [1.0, 2.0]), 'mAcc': ([1], [7.5])}, {})
    assert [line.name for line in chart.lines] == ['mIoU'] and chart.alone == ['mAcc 7.5']


def test_long_curves_are_thinned_to_means():
    steps = list(range(1, 3001))
    (chart,) = charts({'loss': (steps, [float(step) for step in steps])}, {})
    (line,) = chart.lines
    assert len(line.values) == MOST_POINTS and line.values[0] == 5.5 and line.steps[-1] == 3000


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ([0.0] * 20, 'Next to no pixel teaches anything'),
        ([1.0] * 20, 'filters next to nothing'),
        ([0.2] * 10 + [0.6] * 10, '40% of the pixels on average, 20% in the first tenth of the training and 60% in'),
        ([0.6] * 10 + [0.2] * 10, 'It falls'),
    ],
)
def test_kept_share_in_words(values, words):
    cfg = Config(dict(model=dict(label_rule=None)))
    said = kept_share_in_words(cfg, {'kept_share/semantic_segmentation': (list(range(20)), values)})
    assert said[1] == 'Here created images are taught with what θ_C sees in them, at every pixel.'
    assert said[2].startswith('Semantic segmentation: ') and words in said[2]
    assert kept_share_in_words(cfg, {}) == []


def test_samples_are_spread_over_levels():
    records = [dict(sample_id=f'{T}-{n}', T=T) for T in (900, 300) for n in range(5)] + [dict(sample_id='own')]
    chosen = [record['sample_id'] for record in spread_over_levels(records, 5)]
    assert chosen == ['300-0', '300-4', '900-0', '900-4', 'own']


def test_distances_have_closed_forms():
    random = np.random.default_rng(0)
    a = random.normal(size=(500, 2))
    a = (a - a.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(a, rowvar=False))).T  # mean 0, covariance 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    # |3, 0|² + Σ (1 - 2)² over two directions
    assert frechet_distance(a, 2 * a + [3, 0]) == pytest.approx(9 + 2)
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]])
    kernel = lambda p, q: (p * q + 1) ** 3  # noqa: E731
    slow = kernel(1, 2) + kernel(0, 3) - 2 * np.mean([kernel(p, q) for p in (1, 2) for q in (0, 3)])
    assert kernel_distance(x, y) == pytest.approx(slow)


class MeanColour(torch.nn.Module):
    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        means = images.float().mean(dim=(2, 3))
        return means if return_features else means[:, :1, None]


def test_distance_in_features_of_a_network(tmp_path):
    torch.jit.script(MeanColour()).save(str(tmp_path / 'network.pt'))
    files = {}
    for name, shift in (('real', 0), ('created', 10)):
        files[name] = [tmp_path / f'{name}{n}.png' for n in range(4)]
        for n, file in enumerate(files[name]):
            Image.fromarray(np.full((8, 9, 3), 20 * n + shift, np.uint8)).save(file)
    found = feature_distance(files['real'], files['created'], tmp_path / 'network.pt')
    assert (found.real, found.created) == (4, 4) and found.fid == pytest.approx(3 * 10**2)
    with pytest.raises(FileNotFoundError, match='expected a TorchScript file'):
        feature_distance(files['real'], files['created'], tmp_path / 'none.pt')
    with pytest.raises(ValueError, match='is no TorchScript file'):
        feature_distance(files['real'], files['created'], files['real'][0])
    with pytest.raises(ValueError, match='found 1 real and 4 created'):
        feature_distance(files['real'][:1], files['created'], tmp_path / 'network.pt')
