"""Metrics that mmseg does not have."""

from .class_iou_metric import ClassIoUMetric
from .delta_mtl import DeltaMTLEvaluator, delta_mtl
from .depth_metric import PooledDepthMetric
from .edge_metric import EdgeMetric
from .figure_names import build_evaluator, check_figure, figure_names
from .saliency_metric import SaliencyMetric
from .surface_normal_metric import SurfaceNormalMetric

__all__ = [
    'ClassIoUMetric',
    'DeltaMTLEvaluator',
    'EdgeMetric',
    'PooledDepthMetric',
    'SaliencyMetric',
    'SurfaceNormalMetric',
    'build_evaluator',
    'check_figure',
    'delta_mtl',
    'figure_names',
]
