"""Decode heads that mmseg does not have."""

from .bae_normal_head import BaeNormalHead
from .deconvolution_head import DeconvolutionHead
from .dense_task_head import DenseTaskHead
from .generative_decode_head import GenerativeDecodeHead
from .idisc_head import IDiscHead
from .u_shaped_head import UShapedHead
from .vpd_depth_head import VPDDepthDecodeHead

__all__ = [
    'BaeNormalHead',
    'DeconvolutionHead',
    'DenseTaskHead',
    'GenerativeDecodeHead',
    'IDiscHead',
    'UShapedHead',
    'VPDDepthDecodeHead',
]
