"""odsF from pooled counts; processes; lists of images; refusals."""

import json

import numpy as np
import pytest
import torch

from mmdiff2in1.evaluation.edge_counts import THRESHOLDS, counts_of_image
from mmdiff2in1.evaluation.edge_metric import EdgeMetric


def squares(count=3):
    """Images with a square, whose edges were found with noise; more of it in later images."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for index in range(count):
        edge = torch.zeros(1, 40, 50 + index)
        edge[0, 10, 10:30] = edge[0, 29, 10:30] = edge[0, 10:30, 10] = edge[0, 10:30, 29] = 1
        noise = torch.rand(edge.shape, generator=generator)
        predicted = (0.7 * edge + 0.2 * (1 + index) * noise**4).clamp(0, 1)
        found.append(
            dict(pred_edge=dict(data=predicted), gt_edge=dict(data=edge), img_path=f'/somewhere/{index:03d}.png')
        )
    return found


def evaluated(metric, samples):
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


def expected(samples, **settings):
    """F at each threshold, written out."""
    total = 0
    for sample in samples:
        written = np.floor(sample['pred_edge']['data'][0].numpy() * np.float32(255)).astype(np.uint8)
        total = total + counts_of_image(written, sample['gt_edge']['data'][0].numpy(), **settings)
    best = {}
    for threshold, (found, true, used, predicted) in zip(THRESHOLDS, total.tolist(), strict=True):
        recall, precision = found / true, used / predicted if predicted else 1
        measure = 2 * recall * precision / (recall + precision) if recall + precision else 0
        if measure > best.get('odsF', -1) / 100:
            best = dict(odsF=100 * measure, odsR=100 * recall, odsP=100 * precision, threshold=threshold)
    return {f'edge/{name}': pytest.approx(value, rel=1e-9) for name, value in best.items()}


def test_the_best_threshold_of_pooled_counts():
    samples = squares()
    found = evaluated(EdgeMetric(max_distance=0.02, workers=0), samples)
    assert found == expected(samples, max_distance=0.02)
    assert 50 < found['edge/odsF'] < 100 and 0.01 < found['edge/threshold'] < 0.8


def test_processes_and_their_bar_give_the_same(capfd):
    samples = squares()
    metric = EdgeMetric(max_distance=0.02, workers=2)
    assert evaluated(metric, samples * 4) == evaluated(EdgeMetric(max_distance=0.02, workers=0), samples * 4)
    assert metric._pool is None and not metric.results
    assert evaluated(metric, samples) == expected(samples, max_distance=0.02), 'a second evaluation starts afresh'


def test_a_perfect_map_and_an_empty_one():
    samples = squares(1)
    perfect = dict(samples[0], pred_edge=samples[0]['gt_edge'])
    nothing = dict(samples[0], pred_edge=dict(data=torch.zeros_like(samples[0]['gt_edge']['data'])))
    assert evaluated(EdgeMetric(0.02, workers=0), [perfect])['edge/odsF'] == pytest.approx(100, abs=5)
    figures = evaluated(EdgeMetric(0.02, workers=0), [nothing])
    assert (figures['edge/odsF'], figures['edge/odsR'], figures['edge/odsP']) == (0, 0, 100)


def test_samples_without_a_label_count_for_nothing():
    samples = squares()
    bare = {key: value for key, value in samples[0].items() if key != 'gt_edge'}
    unknown = dict(samples[0], gt_edge=dict(data=torch.full_like(samples[0]['gt_edge']['data'], 255.0)))
    assert evaluated(EdgeMetric(workers=0), [bare, *samples, unknown]) == evaluated(EdgeMetric(workers=0), samples)
    with pytest.raises(ValueError, match="none of the 2 samples has a known pixel in 'gt_edge'"):
        evaluated(EdgeMetric(workers=0), [bare, unknown])


def test_other_label_images():
    """PASCAL's LabelMap: 255 is a label like any other."""
    (sample,) = squares(1)
    regions = torch.zeros(sample['gt_edge']['data'].shape, dtype=torch.int64)
    regions[0, 10:30, 10:30] = 255
    sample['gt_label_map'] = dict(data=regions)
    figures = evaluated(EdgeMetric(0.03, 'gt_label_map', None, workers=0), [sample])
    assert figures['edge/odsF'] > 90
    with pytest.raises(ValueError, match='odsF|none of the 1 samples'):
        evaluated(EdgeMetric(0.03, 'gt_other', workers=0), [sample])


@pytest.mark.parametrize(
    'content', ['000\n002\n', '\ufeff000.jpg\r\n\r\n002.jpg\r\n', '# mine\na/000.jpg e/000.png\n002']
)
def test_a_list_of_images(tmp_path, content):
    samples, listed = squares(), tmp_path / 'list.txt'
    listed.write_bytes(content.encode())
    metric = EdgeMetric(image_list=str(listed), workers=0)
    assert evaluated(metric, samples) == evaluated(EdgeMetric(workers=0), [samples[0], samples[2]])
    with pytest.raises(ValueError, match='image_list names 2 images, 1 of them were scored'):
        evaluated(metric, samples[:2])


def test_refusals():
    (sample,) = squares(1)
    sample['pred_edge'] = dict(data=torch.zeros(1, 50, 40))
    with pytest.raises(ValueError, match=r'pred_edge is \(1, 50, 40\), gt_edge \(1, 40, 50\)'):
        EdgeMetric(workers=0).process({}, [sample])
    with pytest.raises(ValueError, match='max_distance=2'):
        EdgeMetric(max_distance=2)
    for thresholds in ((), (0.5, 1.0)):
        with pytest.raises(ValueError, match='expected numbers in'):
            EdgeMetric(thresholds=thresholds)


def test_two_processes_give_the_figures_of_one(two_processes, of_two):
    metric = of_two.metrics()['edge']
    alone = evaluated(metric, of_two.samples())
    for process in two_processes:
        assert process['figures']['edge'] == json.loads(json.dumps(alone))
