"""The names that are told beforehand are those that a test gives."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import mmdiff2in1.components  # noqa: F401  registers the metrics
from mmdiff2in1.evaluation import build_evaluator, check_figure, figure_names

METRICS = [
    dict(type='IoUMetric', iou_metrics=['mIoU', 'mFscore']),
    dict(type='ClassIoUMetric', task=dict(type='HumanParts')),
    dict(type='PooledDepthMetric'),
    dict(type='DepthMetric', max_depth_eval=10.0, prefix='mm'),
    dict(type='SurfaceNormalMetric', per_image_rmse=True),
    dict(type='SaliencyMetric'),
    dict(type='EdgeMetric', workers=0),
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def sample():
    """All fields of an image of 8 × 8; every human part occurs."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(64).reshape(1, 8, 8) % 7
    fields = dict(
        gt_sem_seg=classes % 2,
        pred_sem_seg=classes % 2,
        gt_human_parts=classes,
        pred_human_parts=classes,
        gt_depth_map=torch.full((1, 8, 8), 2.0),
        pred_depth_map=torch.full((1, 8, 8), 3.0),
        gt_normal_map=torch.ones(3, 8, 8),
        pred_normal_map=torch.rand(3, 8, 8, generator=generator),
        gt_saliency=classes % 2,
        saliency_logits=torch.rand(2, 8, 8, generator=generator),
        gt_edge=(classes == 3).long(),
        pred_edge=torch.rand(1, 8, 8, generator=generator),
    )
    found = SegDataSample(metainfo=dict(img_path='a.png'))
    for name, data in fields.items():
        found.set_data({name: PixelData(data=data)})
    return found


@pytest.mark.parametrize('metric', METRICS, ids=lambda metric: metric['type'])
def test_told_and_given(metric):
    evaluator = build_evaluator(metric)
    evaluator.dataset_meta = dict(classes=('a', 'b'))
    evaluator.process([sample()], {})
    assert set(figure_names(evaluator)) == set(evaluator.evaluate(1))


def test_a_name_that_nothing_gives():
    evaluator = build_evaluator([METRICS[0], METRICS[2]])
    check_figure('depth/rmse', evaluator, '--metric')
    with pytest.raises(ValueError) as raised:
        check_figure('miou', evaluator, '--metric')
    assert str(raised.value) == (
        "--metric: no metric of the config gives 'miou'; did you mean mIoU?; there are aAcc, mIoU, mAcc, mFscore, "
        'mPrecision, mRecall, depth/rmse, depth/rmse_log, depth/abs_rel, depth/sq_rel, depth/log10, depth/silog, '
        'depth/d1, depth/d2, depth/d3'
    )


def test_names_of_a_users_own_metric_are_not_known():
    evaluator = build_evaluator([METRICS[0], dict(type='DumpResults', out_file_path='a.pkl')])
    assert figure_names(evaluator) is None
    check_figure('anything', evaluator, '--metric')


def test_the_mean_gain():
    cfg = dict(type='DeltaMTLEvaluator', metrics=[METRICS[0]], single_task={'mIoU': 40.0})
    assert figure_names(build_evaluator(cfg))[-1] == 'delta_mtl'
    with pytest.raises(ValueError, match="single_task of the DeltaMTLEvaluator: .* gives 'mIuO'; did you mean mIoU"):
        build_evaluator(cfg | dict(single_task={'mIuO': 40.0}))
