"""Checkpoints of Bae et al.: what they call their tensors, what these are called in our segmentor, and what it needs.

Their encoder is geffnet's EfficientNet, whose blocks are counted within seven stages; transformers counts them through.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from mmdiff2in1.models.backbones.hf_backbone import HFBackbone
from mmdiff2in1.models.decode_heads.bae_normal_head import BaeNormalHead

from .base import OURS, THEIRS, register
from .rules import Layout, Rule, below, rules
from .table_converter import OurModel, Shapes, TableConverter, Tensors, arguments, module_shapes

EFFICIENTNET_B5: dict[str, Any] = dict(
    model_type='efficientnet',
    width_coefficient=1.6,
    depth_coefficient=2.2,
    hidden_dim=2048,
    image_size=456,
    batch_norm_momentum=0.9,  # of Keras: PyTorch's 0.1, which they trained with
    drop_connect_rate=0.0,
)
"""The published encoder as an `HFBackbone` takes it."""
REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of an EfficientNet's stages, before the depth coefficient; those of the first stage do not expand."""

ENCODER, DECODER = 'encoder.original_model.', 'decoder.'
BACKBONE, HEAD = 'backbone.model.', 'decode_head.'
_STEM_AND_TOP = {
    'conv_stem': 'embeddings.convolution',
    'bn1': 'embeddings.batchnorm',
    'conv_head': 'encoder.top_conv',
    'bn2': 'encoder.top_bn',
}
_EXCITE = {'se.conv_reduce': 'squeeze_excite.reduce', 'se.conv_expand': 'squeeze_excite.expand'}
_WITHOUT_EXPANSION = _EXCITE | {
    'conv_dw': 'depthwise_conv.depthwise_conv',
    'bn1': 'depthwise_conv.depthwise_norm',
    'conv_pw': 'projection.project_conv',
    'bn2': 'projection.project_bn',
}
_WITH_EXPANSION = _EXCITE | {
    'conv_pw': 'expansion.expand_conv',
    'bn1': 'expansion.expand_bn',
    'conv_dw': 'depthwise_conv.depthwise_conv',
    'bn2': 'depthwise_conv.depthwise_norm',
    'conv_pwl': 'projection.project_conv',
    'bn3': 'projection.project_bn',
}
DECODER_NAMES = (
    {'conv2': 'bottleneck', 'out_conv_res8': 'coarse_output'}
    | {f'up{i + 1}._net': f'fusions.{i}' for i in range(4)}
    | {f'out_conv_res{scale}': f'point_heads.{i}' for i, scale in enumerate((4, 2, 1))}
)


@register('bae')
class Bae(TableConverter):
    """The surface-normal checkpoints, for NYUv2 (GN) and ScanNet (BN).

    Settings: ``backbone``, arguments of HFBackbone; ``head``, of BaeNormalHead.

    Args:
        encoder: Fields of the EfficientNet; None: the published B5.
    """

    whose, which = 'Bae et al.', 'with point heads'
    marks = {
        f'{DECODER}out_conv_res1.0.weight': THEIRS,
        ENCODER: 'another decoder on this encoder (AdaBins, or the baseline without point heads?)',
        'original_model.': 'the encoder alone',
        'conv_stem.': 'an EfficientNet alone',
        f'{HEAD}point_heads.': OURS,
    }
    parts = {
        'EfficientNet': (BACKBONE,),
        'decoder': (f'{HEAD}bottleneck.', f'{HEAD}fusions.', f'{HEAD}coarse_output.'),
        'point heads': (f'{HEAD}point_heads.',),
    }

    def __init__(self, encoder: dict[str, Any] | None = None):
        self.encoder = dict(encoder or EFFICIENTNET_B5)

    def layout(self, names: Iterable[str]) -> Layout:
        encoder = rules(_STEM_AND_TOP) + _block_rules(self.encoder['depth_coefficient'])
        return Layout(below(encoder, ENCODER, BACKBONE) + below(rules(DECODER_NAMES), DECODER, HEAD), key='model')

    def our_model(self, ours: Tensors) -> OurModel:
        shapes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
        head = head_settings(shapes)
        with torch.device('meta'):
            needed = module_shapes({'backbone': HFBackbone(self.encoder), 'decode_head': BaeNormalHead(**head)})
        return OurModel(dict(backbone=dict(model=self.encoder), head=head), needed)

    def title(self, settings: Mapping[str, Any]) -> str:
        return f'{self.whose}, {settings["head"]["norm"]}'

    def config_lines(self, settings: Mapping[str, Any]) -> str:
        return '\n'.join(
            [
                'data_preprocessor: mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True',
                f"backbone: dict(type='HFBackbone', model=dict({arguments(settings['backbone']['model'])}))",
                f"head:     dict(type='BaeNormalHead', {arguments(settings['head'])})",
            ]
        )


def head_settings(shapes: Shapes, head: str = HEAD) -> dict[str, Any]:
    """Arguments of the head that the decoder's tensors, whose names begin with ``head``, describe.

    Raises:
        KeyError: A tensor that says how large it is is missing.
    """
    fusions = [shapes[f'{head}fusions.{i}.0.weight'] for i in range(4)]
    widths = [shape[0] for shape in fusions]
    coarsest = shapes[f'{head}bottleneck.weight'][0]
    skips = [shape[1] - before for shape, before in zip(fusions, [coarsest, *widths[:-1]], strict=True)]
    return dict(
        in_channels=[*skips[::-1], coarsest],
        task=dict(type='SurfaceNormal', kappa=True),
        norm='BN' if f'{head}fusions.0.1.running_mean' in shapes else 'GN',
        widths=widths,
        point_channels=shapes[f'{head}point_heads.2.0.weight'][0],
    )


def _block_rules(depth_coefficient: float) -> list[Rule]:
    places = [
        (stage, block) for stage, times in enumerate(REPEATS) for block in range(math.ceil(times * depth_coefficient))
    ]
    return [
        rule
        for i, (stage, block) in enumerate(places)
        for rule in below(
            rules(_WITH_EXPANSION if stage else _WITHOUT_EXPANSION),
            f'blocks.{stage}.{block}.',
            f'encoder.blocks.{i}.',
        )
    ]
