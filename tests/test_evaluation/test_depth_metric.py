"""Both protocols against a reference that keeps every pixel, and the image-wise one against mmseg's."""

import numpy as np
import pytest
import torch
from mmseg.evaluation import DepthMetric

from mmdiff2in1.evaluation.depth_metric import PooledDepthMetric


def sample(predicted, target):
    return dict(pred_depth_map=dict(data=predicted), gt_depth_map=dict(data=target))


def evaluated(metric, samples):
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def reference(pairs):
    """The figures of predicted and true depths, written out in float64."""
    p, g = (np.concatenate(part).astype(np.float64) for part in zip(*pairs, strict=True))
    e, ratio = np.log(p) - np.log(g), np.maximum(p / g, g / p)
    return dict(
        rmse=np.sqrt(((p - g) ** 2).mean()),
        rmse_log=np.sqrt((e**2).mean()),
        abs_rel=(np.abs(p - g) / g).mean(),
        sq_rel=((p - g) ** 2 / g).mean(),
        log10=np.abs(np.log10(p / g)).mean(),
        silog=np.sqrt(e.var() + e.mean() ** 2 / 2),
        d1=(ratio < 1.25).mean(),
        d2=(ratio < 1.5625).mean(),
        d3=(ratio < 1.953125).mean(),
    )


def valid_pairs(samples, most=10):
    pairs = []
    for one in samples:
        p, g = one['pred_depth_map']['data'].numpy(), one['gt_depth_map']['data'].numpy()
        valid = (g > 1e-3) & (g < most)
        pairs.append((np.clip(p[valid].astype(np.float64), 1e-3, most), g[valid]))
    return pairs


def test_pooled_pixels(of_two):
    samples = of_two.samples()
    expected = reference(valid_pairs(samples))
    found = evaluated(PooledDepthMetric(), samples)
    assert found == {f'depth/{name}': pytest.approx(value, rel=1e-12) for name, value in expected.items()}
    assert 0.5 < found['depth/d1'] < found['depth/d2'] < found['depth/d3'] < 1


@pytest.mark.parametrize('average', ['pixels', 'images'])
def test_an_image_without_ground_truth_counts_for_nothing(of_two, average):
    samples = of_two.samples()
    bare = {key: value for key, value in samples[0].items() if key != 'gt_depth_map'}
    expected = evaluated(PooledDepthMetric(average=average), samples)
    assert evaluated(PooledDepthMetric(average=average), [bare, *samples, bare]) == expected


def test_mean_over_images(of_two):
    samples = of_two.samples()
    of_images = [reference([pair]) for pair in valid_pairs(samples, 6) if pair[1].size]
    assert len(of_images) == len(samples) - 1, 'one image has no valid pixel'
    found = evaluated(PooledDepthMetric(max_depth=6, average='images', prefix='near'), samples)
    for name in of_images[0]:
        assert found[f'near/{name}'] == pytest.approx(np.mean([image[name] for image in of_images]), rel=1e-12)


def test_eigen_crop_agrees_with_mmseg():
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(3):
        target = torch.rand(1, 480, 640, generator=generator) * 11 - 0.5  # some beyond 10 m, some invalid
        predicted = target.clamp(0.1, 9) * (torch.randn(target.shape, generator=generator) * 0.1).exp()
        samples.append(sample(predicted.clamp(max=9.9), target.clamp(min=0)))
    mmseg = DepthMetric(min_depth_eval=1e-3, max_depth_eval=10, crop_type='nyu_crop')
    ours = evaluated(PooledDepthMetric(average='images', crop='eigen'), samples)
    theirs = evaluated(mmseg, samples)
    assert {name.removeprefix('depth/'): value for name, value in ours.items()} == pytest.approx(theirs, rel=1e-5)
    assert ours != evaluated(PooledDepthMetric(average='images'), samples)


def test_the_crop_is_rows_45_to_470_and_columns_41_to_600():
    target, predicted = torch.full((1, 480, 640), 2.0), torch.full((1, 480, 640), 7.0)
    predicted[:, 45:471, 41:601] = 2
    assert evaluated(PooledDepthMetric(crop='eigen'), [sample(predicted, target)])['depth/rmse'] == 0
    for row, column in ((45, 41), (470, 600)):
        predicted[0, row, column] = 3
        rmse = evaluated(PooledDepthMetric(crop='eigen'), [sample(predicted, target)])['depth/rmse']
        assert rmse == pytest.approx((1 / (426 * 560)) ** 0.5)
        predicted[0, row, column] = 2


def test_predictions_are_clamped():
    target = torch.tensor([[[1.0, 1.0, 8.0, 8.0, 12.0, 0.0]]])
    predicted = torch.tensor([[[-3.0, torch.nan, 30.0, torch.inf, 1.0, 1.0]]])
    found = evaluated(PooledDepthMetric(), [sample(predicted, target)])
    assert found['depth/rmse'] == pytest.approx(np.sqrt((2 * 0.999**2 + 2 * 2**2) / 4), rel=1e-12)


def test_two_processes_get_the_figures_of_one(of_two, two_processes):
    samples = of_two.samples()
    for name in ('pixels', 'images'):
        expected = evaluated(of_two.metrics()[name], samples)
        for rank in two_processes:
            assert rank['figures'][name] == pytest.approx(expected, rel=1e-12)


def test_what_does_not_fit_is_named():
    depth = torch.ones(1, 6, 8)
    with pytest.raises(ValueError, match=r'\(1, 6, 8\), gt_depth_map \(1, 3, 4\).*LoadDenseAnnotation must stand'):
        evaluated(PooledDepthMetric(), [sample(depth, depth[:, :3, :4])])
    with pytest.raises(ValueError, match=r"crop='eigen' is defined on NYUv2's maps of 480 × 640, found \(6, 8\)"):
        evaluated(PooledDepthMetric(crop='eigen'), [sample(depth, depth)])
    with pytest.raises(ValueError, match=r'none of the 1 depth maps has a valid pixel.*\(0.001, 10\) m.*unit'):
        evaluated(PooledDepthMetric(), [sample(depth, depth * 1000)])
    for setting in (dict(crop='kitti'), dict(average='sets'), dict(min_depth=0.0), dict(max_depth=1e-4)):
        with pytest.raises(ValueError, match=next(iter(setting))):
            PooledDepthMetric(**setting)
