"""mIoU of human parts against mmseg's, maxF against a loop over thresholds, the gain over single tasks."""

import json
import math

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.evaluation import IoUMetric
from mmseg.registry import EVALUATOR

from mmdiff2in1.evaluation import ClassIoUMetric, SaliencyMetric, delta_mtl
from mmdiff2in1.tasks import Depth, HumanParts


def evaluated(metric, samples):
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def parts(count=4):
    generator = torch.Generator().manual_seed(0)
    found = []
    for index in range(count):
        size = (1, 9 + index, 11)
        target = torch.randint(6, size, generator=generator)  # no lower legs
        wrong = torch.rand(size, generator=generator) > 0.6
        predicted = target.where(~wrong, torch.randint(6, size, generator=generator))
        target[torch.rand(size, generator=generator) > 0.8] = 255
        found.append(dict(pred_human_parts=dict(data=predicted), gt_human_parts=dict(data=target)))
    return found


class TestClassIoU:
    def test_it_is_mmsegs(self):
        samples = parts()
        found = evaluated(ClassIoUMetric(dict(type='HumanParts')), samples)
        mmseg = IoUMetric(iou_metrics=['mIoU'])
        mmseg.dataset_meta = dict(classes=HumanParts().classes)
        renamed = [dict(pred_sem_seg=each['pred_human_parts'], gt_sem_seg=each['gt_human_parts']) for each in samples]
        assert found['human_parts/mIoU'] == pytest.approx(evaluated(mmseg, renamed)['mIoU'], abs=0.006)
        assert 40 < found['human_parts/mIoU'] < 90 and 'human_parts/IoU.lower_legs' not in found
        classes = ('background', 'head', 'torso', 'upper_arms', 'lower_arms', 'upper_legs')
        own = [found[f'human_parts/IoU.{name}'] for name in classes]
        assert found['human_parts/mIoU'] == pytest.approx(sum(own) / 6) and len(found) == 7

    def test_by_hand(self):
        """Class 1: one of three pixels that are true or predicted; class 0: two of four; 255 counts for nothing."""
        target = torch.tensor([[[0, 0, 0, 1, 1, 255]]])
        predicted = torch.tensor([[[0, 0, 1, 1, 0, 1]]])
        task = HumanParts(classes=('a', 'b', 'c'))
        found = evaluated(
            ClassIoUMetric(task), [dict(pred_human_parts=dict(data=predicted), gt_human_parts=dict(data=target))]
        )
        assert found == {
            'human_parts/mIoU': pytest.approx(100 * (1 / 3 + 1 / 2) / 2),
            'human_parts/IoU.a': pytest.approx(50),
            'human_parts/IoU.b': pytest.approx(100 / 3),
        }

    def test_samples_without_ground_truth_and_refusals(self):
        samples, metric = parts(), ClassIoUMetric(dict(type='HumanParts'))
        bare = {key: value for key, value in samples[0].items() if key != 'gt_human_parts'}
        assert evaluated(metric, [bare, *samples]) == evaluated(metric, samples)
        with pytest.raises(ValueError, match='none of the 1 samples has a valid pixel in gt_human_parts'):
            evaluated(metric, [bare])
        with pytest.raises(ValueError, match=r'pred_human_parts is \(1, 9, 11\), gt_human_parts \(1, 10, 11\)'):
            ClassIoUMetric(HumanParts()).process({}, [dict(samples[0], gt_human_parts=samples[1]['gt_human_parts'])])
        with pytest.raises(TypeError, match='expected one of classes'):
            ClassIoUMetric(Depth())


def saliency(count=3):
    generator = torch.Generator().manual_seed(1)
    found = []
    for index in range(count):
        size = (8 + index, 10)
        target = (torch.rand(size, generator=generator) > 0.7).long()[None]
        logits = torch.randn(2, *size, generator=generator) * 1.5
        logits[1] += 2 * target[0] - 1
        target[torch.rand(target.shape, generator=generator) > 0.9] = 255
        found.append(dict(saliency_logits=dict(data=logits), gt_saliency=dict(data=target)))
    return found


def slow_max_f(samples, protocol):
    """All pixels of all images, threshold by threshold."""
    pixels = []
    for sample in samples:
        logits, target = sample['saliency_logits']['data'].double(), sample['gt_saliency']['data'][0]
        for y in range(target.shape[0]):
            for x in range(target.shape[1]):
                if target[y, x] != 255:
                    p = 1 / (1 + math.exp(float(logits[0, y, x] - logits[1, y, x])))
                    pixels.append((1 / (1 + math.exp(-p)) if protocol == 'invpt' else p, int(target[y, x])))
    best = (-1.0, 0.0)
    for step in range(1, 20):
        found = [label for score, label in pixels if score >= step / 20]
        right, salient = sum(found), sum(label for _, label in pixels)
        if right:
            precision, recall = right / len(found), right / salient
            best = max(best, (1.3 * precision * recall / (0.3 * precision + recall), -step / 20))
    return {'saliency/maxF': pytest.approx(100 * best[0], rel=1e-9), 'saliency/threshold': -best[1]}


class TestSaliency:
    @pytest.mark.parametrize('protocol', ['plain', 'invpt'])
    def test_a_loop_over_thresholds(self, protocol):
        samples = saliency()
        found = evaluated(SaliencyMetric(protocol), samples)
        assert found == slow_max_f(samples, protocol) and 50 < found['saliency/maxF'] < 95

    def test_the_second_sigmoid_leaves_four_thresholds(self):
        """Probabilities just below and above 0.20, 0.41, 0.62 and 0.85 are told apart, others are not."""
        reached = [math.log((t / (1 - t)) / 1) for t in (0.55, 0.60, 0.65, 0.70)]  # sigmoid(p) = t
        assert reached == pytest.approx([0.2007, 0.4055, 0.6190, 0.8473], abs=1e-4)
        found = {}
        for p in [0.1, *(each + shift for each in reached for shift in (-0.01, 0.01)), 0.99]:
            logits = torch.tensor([0.0, math.log(p / (1 - p))]).view(2, 1, 1)
            (result,) = [SaliencyMetric('invpt')]
            result.process({}, [dict(saliency_logits=dict(data=logits), gt_saliency=dict(data=torch.ones(1, 1, 1)))])
            found[p] = int(result.results[0][0].sum())
        assert list(found.values()) == [10, 10, 11, 11, 12, 12, 13, 13, 14, 14]

    def test_samples_without_ground_truth_and_refusals(self):
        samples, metric = saliency(), SaliencyMetric()
        bare = dict(saliency_logits=samples[0]['saliency_logits'])
        assert evaluated(metric, [*samples, bare]) == evaluated(metric, samples)
        with pytest.raises(ValueError, match='none of the 1 samples has a salient pixel'):
            evaluated(metric, [bare])
        with pytest.raises(ValueError, match="unknown protocol 'x'; known: plain, invpt"):
            SaliencyMetric('x')
        for thresholds in ((), (0.5, 0.5), (0.5, 1.0), (0.0,)):
            with pytest.raises(ValueError, match='expected rising numbers'):
                SaliencyMetric(thresholds=thresholds)
        with pytest.raises(ValueError, match=r'saliency_logits is \(2, 8, 10\), gt_saliency \(1, 9, 10\)'):
            metric.process({}, [dict(samples[0], gt_saliency=samples[1]['gt_saliency'])])


class TestDelta:
    def test_errors_count_the_other_way_round(self):
        single = {'mIoU': 40.0, 'depth/rmse': 0.5, 'normal/mean': 20.0}
        scores = {'mIoU': 44.0, 'depth/rmse': 0.4, 'normal/mean': 21.0, 'normal/median': 3.0}
        assert delta_mtl(scores, single) == pytest.approx((10 + 20 - 5) / 3)
        assert delta_mtl(single, single) == 0

    def test_refusals(self):
        with pytest.raises(ValueError, match='the model has no edge/odsF; found mIoU'):
            delta_mtl(dict(mIoU=1.0), {'edge/odsF': 70.0})
        with pytest.raises(ValueError, match='single_task is empty'):
            delta_mtl(dict(mIoU=1.0), {})
        with pytest.raises(ValueError, match='score of mIoU is 0'):
            delta_mtl(dict(mIoU=1.0), dict(mIoU=0.0))

    def test_the_evaluator_adds_it(self):
        init_default_scope('mmseg')  # as a run does
        samples = saliency()
        plain = evaluated(SaliencyMetric(), samples)['saliency/maxF']
        evaluator = EVALUATOR.build(
            dict(
                type='DeltaMTLEvaluator',
                metrics=[dict(type='SaliencyMetric'), dict(type='ClassIoUMetric', task=dict(type='HumanParts'))],
                single_task={'saliency/maxF': plain / 1.1},
            )
        )
        evaluator.process([dict(one, **other) for one, other in zip(samples, parts(3), strict=True)])
        figures = evaluator.evaluate(3)
        assert figures['delta_mtl'] == pytest.approx(10) and figures['saliency/maxF'] == plain
        assert 'human_parts/mIoU' in figures


@pytest.mark.parametrize('name', ['parts', 'saliency'])
def test_two_processes_give_the_figures_of_one(two_processes, of_two, name):
    alone = evaluated(of_two.metrics()[name], of_two.samples())
    for process in two_processes:
        assert process['figures'][name] == json.loads(json.dumps(alone))
