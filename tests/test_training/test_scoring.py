"""Which figure of an evaluator is compared."""

import pytest

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.tasks import Depth, HumanParts, SemanticSegmentation, SurfaceNormal, TaskSet
from mmdiff2in1.training.scoring import chosen_metric


@pytest.mark.parametrize(
    ('task', 'figures', 'chosen'),
    [
        (SemanticSegmentation(3), ['aAcc', 'mIoU'], 'mIoU'),
        (Depth(), ['depth/abs_rel', 'depth/rmse'], 'depth/rmse'),  # of this package's metric
        (Depth(), ['abs_rel', 'rmse'], 'rmse'),  # of mmseg's
        (SurfaceNormal(), ['normal/mean', 'normal/median'], 'normal/mean'),
        (HumanParts(), ['mIoU', 'human_parts/mIoU'], 'human_parts/mIoU'),
    ],
)
def test_the_figure_of_a_task(task, figures, chosen):
    metrics = dict.fromkeys(figures, 1.0)
    assert chosen_metric(metrics, TaskSet(task)) == chosen
    assert chosen_metric(metrics, TaskSet(task), figures[0]) == figures[0]


def test_a_figure_that_is_not_there():
    with pytest.raises(ValueError, match="val_evaluator gives no 'rmse'; found mIoU: name one of them"):
        chosen_metric(dict(mIoU=1.0), TaskSet(Depth()))
