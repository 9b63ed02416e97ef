"""Models that see: backbones, necks, decode heads, losses, and the segmentor that improves itself."""

from . import mmengine_checkpoints  # noqa: F401  before anything is read
from .backbones import DiffusionBackbone, FeatureConfig, FrozenFeatures, HFBackbone, MetaPromptBackbone, ViTLevels
from .cached_views_preprocessor import CachedViewsPreProcessor
from .data_preprocessor import DenseDataPreProcessor
from .decode_heads import (
    BaeNormalHead,
    DeconvolutionHead,
    DenseTaskHead,
    GenerativeDecodeHead,
    IDiscHead,
    UShapedHead,
    VPDDepthDecodeHead,
)
from .losses import AngularVMFLoss, CosineNormalLoss, ScaleInvariantLogLoss
from .multitask import InvPTHead, TaskHeads, TaskPrompterHead, TaskPrompterViT, task_loss
from .necks import DiffusionPyramidAdapter, ReleasedAdapter
from .segmentors import (
    DenoisingEncoderDecoder,
    DenseEstimator,
    DenseTTAModel,
    SceneConditionedEstimator,
)
from .self_improving import GivenLabel, LabelRule, SelfImprovingSegmentor, TeacherLabel

__all__ = [
    'AngularVMFLoss',
    'BaeNormalHead',
    'CachedViewsPreProcessor',
    'CosineNormalLoss',
    'DeconvolutionHead',
    'DenoisingEncoderDecoder',
    'DenseDataPreProcessor',
    'DenseEstimator',
    'DenseTTAModel',
    'DenseTaskHead',
    'DiffusionBackbone',
    'DiffusionPyramidAdapter',
    'FeatureConfig',
    'FrozenFeatures',
    'GenerativeDecodeHead',
    'GivenLabel',
    'HFBackbone',
    'IDiscHead',
    'InvPTHead',
    'LabelRule',
    'MetaPromptBackbone',
    'ReleasedAdapter',
    'ScaleInvariantLogLoss',
    'SceneConditionedEstimator',
    'SelfImprovingSegmentor',
    'TaskHeads',
    'TaskPrompterHead',
    'TaskPrompterViT',
    'TeacherLabel',
    'UShapedHead',
    'VPDDepthDecodeHead',
    'ViTLevels',
    'task_loss',
]
