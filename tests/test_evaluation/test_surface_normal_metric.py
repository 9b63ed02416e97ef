"""Angles against an independent float64 reference that keeps every pixel, and against closed forms."""

import math

import numpy as np
import pytest
import torch
from mmseg.registry import METRICS

from mmdiff2in1.evaluation.surface_normal_metric import BINS_PER_DEGREE, SurfaceNormalMetric

HALF_A_BIN = 0.5 / BINS_PER_DEGREE


def sample(predicted, target):
    return dict(pred_normal_map=dict(data=predicted), gt_normal_map=dict(data=target))


def evaluated(samples, **settings):
    metric = SurfaceNormalMetric(**settings)
    for start in range(0, len(samples), 2):
        metric.process({}, samples[start : start + 2])
    return metric.evaluate(len(samples))


def reference_angles(one):
    """Degrees by the arc cosine, pixel by pixel, of what is valid."""
    p, g = one['pred_normal_map']['data'].numpy(), one['gt_normal_map']['data'].numpy()
    found = []
    for row, column in np.argwhere(np.abs(g).sum(0) > 0):
        a, b = p[:3, row, column].astype(np.float64), g[:, row, column].astype(np.float64)
        found.append(np.degrees(np.arccos(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))))
    return np.array(found)


@pytest.mark.parametrize('count', (4, 5))
def test_figures_of_random_maps(of_two, count):
    samples = of_two.samples(count)
    of_images = [reference_angles(one) for one in samples]
    angles = np.concatenate(of_images)
    figures = evaluated(samples, thresholds=(5, 7.5, 11.25, 11.5, 22.5, 30), per_image_rmse=True)
    expected = dict(mean=angles.mean(), rmse=np.sqrt((angles**2).mean()))
    expected |= {f'below_{name}': 100 * (angles < float(name)).mean() for name in '5 7.5 11.25 11.5 22.5 30'.split()}
    expected['rmse_per_image'] = np.mean([np.sqrt((a**2).mean()) for a in of_images if len(a)])
    median = figures.pop('normal/median')
    assert figures == {f'normal/{name}': pytest.approx(value, rel=1e-12) for name, value in expected.items()}
    assert abs(median - np.median(angles)) <= HALF_A_BIN + 1e-12


def test_an_image_without_ground_truth_counts_for_nothing(of_two):
    samples = of_two.samples(4)
    bare = {key: value for key, value in samples[0].items() if key != 'gt_normal_map'}
    assert evaluated([bare, *samples, bare]) == evaluated(samples)


def test_the_median_of_an_even_number_lies_between_the_two_middle_angles():
    def turned(*degrees):
        radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
        return torch.stack([radians.sin(), torch.zeros_like(radians), radians.cos()])[:, None]

    forward = turned(0, 0, 0, 0)
    four = evaluated([sample(turned(1, 2, 40, 90), forward)])
    assert abs(four['normal/median'] - 21) <= HALF_A_BIN
    three = evaluated([sample(turned(1, 2, 40), forward[..., :3])])
    assert abs(three['normal/median'] - 2) <= HALF_A_BIN + 1e-12


@pytest.mark.parametrize('degrees', (0, 1e-7, 1e-4, 0.5, 90, 179.9999, 180))
def test_angles_are_exact_near_the_ends(degrees):
    """The arc cosine of a cosine in float64 knows nothing below 1e-6 degrees; float32 input at exactly 0 stays 0."""
    angle = math.radians(degrees)
    target = torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)[:, None, None]
    predicted = torch.tensor([math.sin(angle), 0.0, math.cos(angle)], dtype=torch.float64)[:, None, None] * 7
    figures = evaluated([sample(predicted, target)])
    assert figures['normal/mean'] == pytest.approx(degrees, rel=1e-12, abs=1e-13)
    assert abs(figures['normal/median'] - degrees) <= HALF_A_BIN + 1e-12


def test_float32_vectors_that_agree_are_zero_degrees_apart():
    vectors = torch.nn.functional.normalize(torch.randn(3, 50, 50, generator=torch.Generator().manual_seed(0)), dim=0)
    figures = evaluated([sample(vectors, vectors)])
    assert figures['normal/mean'] == 0 and figures['normal/below_5'] == 100


def test_predictions_without_direction():
    target = torch.tensor([0.0, 0.0, 1.0]).repeat(3, 1).T[:, None]
    predicted = torch.tensor([[0.0, 0, 0], [torch.nan, 0, 1], [torch.inf, 0, 1]]).T[:, None]
    assert evaluated([sample(predicted, target)])['normal/mean'] == pytest.approx((90 + 180 + 180) / 3)


def test_two_processes_get_the_figures_of_one(of_two, two_processes):
    samples = of_two.samples()
    expected = evaluated(samples, thresholds=(5, 11.25, 11.5, 30), per_image_rmse=True)
    assert [rank['seen'] for rank in two_processes] == [[0, 2, 4], [1, 3, 0]], 'the second one sees image 0 again'
    for rank in two_processes:
        assert rank['figures']['normal'] == pytest.approx(expected, rel=1e-12)


def test_a_metric_is_used_again_from_the_start(of_two):
    metric, samples = METRICS.build(dict(type='SurfaceNormalMetric', prefix='mine')), of_two.samples()
    found = []
    for chosen in (samples, samples[:1], samples):
        metric.process({}, chosen)
        found.append(metric.evaluate(len(chosen)))
    assert found[0] == found[2] != found[1]
    assert list(found[0])[:4] == ['mine/mean', 'mine/median', 'mine/rmse', 'mine/below_5']


def test_what_does_not_fit_is_named():
    up = torch.tensor([0.0, 1, 0])[:, None, None].expand(3, 6, 8)
    with pytest.raises(ValueError, match=r'\(3, 6, 8\), gt_normal_map \(3, 6, 6\).*LoadDenseAnnotation must stand'):
        evaluated([sample(up, up[..., :6])])
    with pytest.raises(ValueError, match='none of the 1 normal maps has a valid pixel'):
        evaluated([sample(up, torch.zeros(3, 6, 8))])
    with pytest.raises(ValueError, match=r'degrees in \(0, 180\], found \[0\]'):
        SurfaceNormalMetric(thresholds=(0, 5))
    metric = SurfaceNormalMetric()
    metric.process({}, [sample(up, up)] * 4)
    with pytest.raises(ValueError, match="saw 4 samples of a set of 2, 2 of them twice.*'DefaultSampler'"):
        metric.evaluate(2)
    with pytest.raises(ValueError, match='192 pixels in the collected results, 0 in the counts'):
        SurfaceNormalMetric().compute_metrics(metric.results)
