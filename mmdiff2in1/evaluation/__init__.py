"""Metrics that mmseg does not have."""

from .depth_metric import PooledDepthMetric
from .surface_normal_metric import SurfaceNormalMetric

__all__ = ['PooledDepthMetric', 'SurfaceNormalMetric']
