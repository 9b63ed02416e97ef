"""Metrics that mmseg does not have."""

from .depth_metric import PooledDepthMetric
from .mean_squared_error import MeanSquaredError
from .surface_normal_metric import SurfaceNormalMetric

__all__ = ['MeanSquaredError', 'PooledDepthMetric', 'SurfaceNormalMetric']
