"""Metrics that mmseg does not have."""

from .class_iou_metric import ClassIoUMetric
from .delta_mtl import DeltaMTLEvaluator, delta_mtl
from .depth_metric import PooledDepthMetric
from .edge_metric import EdgeMetric
from .saliency_metric import SaliencyMetric
from .surface_normal_metric import SurfaceNormalMetric

__all__ = [
    'ClassIoUMetric',
    'DeltaMTLEvaluator',
    'EdgeMetric',
    'PooledDepthMetric',
    'SaliencyMetric',
    'SurfaceNormalMetric',
    'delta_mtl',
]
