"""Losses that mmseg does not have."""

from .angular_vmf import AngularVMFLoss
from .cosine_normal import CosineNormalLoss
from .scale_invariant_log import ScaleInvariantLogLoss

__all__ = ['AngularVMFLoss', 'CosineNormalLoss', 'ScaleInvariantLogLoss']
