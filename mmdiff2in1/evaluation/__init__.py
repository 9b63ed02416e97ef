"""Metrics that mmseg does not have."""

from .mean_squared_error import MeanSquaredError

__all__ = ['MeanSquaredError']
