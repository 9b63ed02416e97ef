"""Losses that mmseg does not have."""

from .angular_vmf import AngularVMFLoss
from .balanced_cross_entropy import BalancedCrossEntropyLoss
from .cosine_normal import CosineNormalLoss
from .edge import EdgeLoss
from .pixel_cross_entropy import PixelCrossEntropyLoss
from .pixel_l1 import PixelL1Loss
from .scale_invariant_log import ScaleInvariantLogLoss

__all__ = [
    'AngularVMFLoss',
    'BalancedCrossEntropyLoss',
    'CosineNormalLoss',
    'EdgeLoss',
    'PixelCrossEntropyLoss',
    'PixelL1Loss',
    'ScaleInvariantLogLoss',
]
