"""Normals checkpoints of iDisc: what it calls its tensors, what these are called in our segmentor, and what it needs.

Their decoder counts resolutions and layers from 1, ours from 0; both count resolutions from the coarsest.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmdiff2in1.models.backbones.hf_backbone import HFBackbone
from mmdiff2in1.models.decode_heads.idisc_head import IDiscHead

from .base import OURS, THEIRS, register
from .rules import Layout, Rule, rules
from .table_converter import OurModel, Shapes, TableConverter, Tensors, arguments, module_shapes

SWIN, HEAD = 'backbone.model.', 'decode_head.'
HEADS = 4
"""Heads of the deformable attention in all published models; their number cannot be seen from shapes."""
UNUSED = f'{SWIN}swin.layernorm.'
"""The norm after the last stage, which transformers' Swin has, and whose output its backbone never gives."""
_OUTPUT = f'{HEAD}decoders.0.output.3.weight'
_INDEX = 'relative_position_index'
_FOLLOWS = 'that follow from the size of the window'

_BLOCK, _OUR_BLOCK = 'pixel_encoder.layers.@.blocks.@', f'{SWIN}swin.encoder.layers.@.blocks.@'
_LAYER, _OUR_LAYER = 'pixel_decoder.transformer.encoder.layer_@', f'{HEAD}pixel_decoder.layers.@'
_ATTENTION = dict(norm='norm', norm_context='context_norm', to_q='query', to_kv='key_value', to_out='output')
_SWIN = {
    'pixel_encoder.patch_embed.proj': f'{SWIN}swin.embeddings.patch_embeddings.projection',
    'pixel_encoder.patch_embed.norm': f'{SWIN}swin.embeddings.norm',
    f'{_BLOCK}.norm1': f'{_OUR_BLOCK}.layernorm_before',
    f'{_BLOCK}.attn.relative_position_bias_table': (
        f'{_OUR_BLOCK}.attention.relative_position_bias.relative_position_bias_table'
    ),
    f'{_BLOCK}.attn.proj': f'{_OUR_BLOCK}.attention.o_proj',
    f'{_BLOCK}.norm2': f'{_OUR_BLOCK}.layernorm_after',
    f'{_BLOCK}.mlp': f'{_OUR_BLOCK}.mlp',
    'pixel_encoder.layers.@.downsample': f'{SWIN}swin.encoder.layers.@.downsample',
}
_DECODER = {
    'pixel_decoder.input_adapter_@': f'{HEAD}pixel_decoder.project.@',
    'pixel_decoder.transformer.level_embed': f'{HEAD}pixel_decoder.level_embedding',
    f'{_LAYER}.self_attn.sampling_offsets': f'{_OUR_LAYER}.attention.offsets',
    f'{_LAYER}.self_attn.attention_weights': f'{_OUR_LAYER}.attention.scores',
    f'{_LAYER}.self_attn.value_proj': f'{_OUR_LAYER}.attention.value',
    f'{_LAYER}.self_attn.output_proj': f'{_OUR_LAYER}.attention.output',
    f'{_LAYER}.norm1': f'{_OUR_LAYER}.norm',
    f'{_LAYER}.norm2': f'{_OUR_LAYER}.mlp.0',
    f'{_LAYER}.linear1': f'{_OUR_LAYER}.mlp.1',
    f'{_LAYER}.linear2': f'{_OUR_LAYER}.mlp.3',
    'afp.mu_@': f'{HEAD}partitioning.priors.@',
    'isd.head_@.proj_output': f'{HEAD}decoders.@.output',
    'isd.head_@.mlp_@': f'{HEAD}decoders.@.mlp.@',
    'afp.mlp_cross_@_d1': f'{HEAD}partitioning.mlp.@',
}
_DECODER |= {f'afp.cross_attn_@_d1.{old}': f'{HEAD}partitioning.attention.@.{new}' for old, new in _ATTENTION.items()}
_DECODER |= {f'isd.head_@.cross_attn_@.{old}': f'{HEAD}decoders.@.attention.@.{new}' for old, new in _ATTENTION.items()}
for _old, _new in (('lateral_fpn_conv', 'lateral'), ('out_conv', 'encoded'), ('fpn_conv', 'smooth')):
    _DECODER |= {
        f'pixel_decoder.{_old}_@.norm': f'{HEAD}pixel_decoder.{_new}.@.bn',
        f'pixel_decoder.{_old}_@': f'{HEAD}pixel_decoder.{_new}.@.conv',
    }
LAYOUT = Layout(
    [
        Rule(f'{_BLOCK}.attn.qkv', tuple(f'{_OUR_BLOCK}.attention.{part}_proj' for part in 'qkv')),
        *rules(_SWIN),
        Rule('pixel_encoder.norm@', f'{SWIN}hidden_states_norms.stage@', shift=1),
        *rules(_DECODER, shift=-1),
    ],
    unused={_FOLLOWS: re.compile(rf'pixel_encoder\.layers\.\d+\.blocks\.\d+\.attn\.{_INDEX}')},
    key='',
)


@register('idisc')
class IDisc(TableConverter):
    """The surface-normal checkpoints on a Swin transformer.

    Settings: ``swin``, fields of the backbone's configuration; ``head``, arguments of IDiscHead.
    """

    whose, which = 'iDisc', 'on a Swin transformer'
    marks = {
        'pixel_encoder.patch_embed.': THEIRS,
        'pixel_encoder.layer1.': 'iDisc on a ResNet',
        'pixel_encoder.conv_stem.': 'iDisc on an EfficientNet',
        'pixel_encoder.original_model.': 'iDisc on an EfficientNet',
        'patch_embed.': 'a Swin transformer alone',
        f'{HEAD}partitioning.': OURS,
    }
    parts = {
        'Swin': ('backbone.',),
        'pixel decoder': (f'{HEAD}pixel_decoder.',),
        'partitioning': (f'{HEAD}partitioning.',),
        'discretisation': (f'{HEAD}decoders.',),
    }

    def layout(self, names: Iterable[str]) -> Layout:
        return LAYOUT

    def our_model(self, ours: Tensors) -> OurModel:
        shapes = {name: tuple(tensor.shape) for name, tensor in ours.items()}
        channels = shapes[_OUTPUT][0]
        if channels != 4:
            raise ValueError(
                f'its head puts out {channels} channels, expected 4 of a normals model; a depth model takes the '
                'exponential of its output, which our head does not'
            )
        swin, head = swin_settings(shapes), head_settings(shapes)
        with torch.device('meta'):
            needed = module_shapes(
                {
                    'backbone': HFBackbone(dict(model_type='swin', **swin)),
                    'decode_head': IDiscHead(task=dict(type='SurfaceNormal', kappa=True), **head),
                }
            )
        unread = {
            name: torch.full(shape, float(name.endswith('weight')))
            for name, shape in needed.items()
            if name.startswith(UNUSED)
        }
        return OurModel(dict(swin=swin, head=head), needed, {'that nothing reads': unread})

    def their_extras(self, ours: Tensors) -> dict[str, dict[str, Tensor]]:
        found = {LAYOUT.theirs(name): tensor for name, tensor in ours.items() if name.endswith('bias_table')}
        return {
            _FOLLOWS: {
                name.replace('relative_position_bias_table', _INDEX): _relative_positions(math.isqrt(len(table)))
                for name, table in found.items()
            }
        }

    def title(self, settings: Mapping[str, Any]) -> str:
        return f'{self.whose}, normals'

    def config_lines(self, settings: Mapping[str, Any]) -> str:
        return '\n'.join(
            [
                f"backbone:  type='HFBackbone', model=dict(model_type='swin', {arguments(settings['swin'])})",
                "head:      type='IDiscHead', task=dict(type='SurfaceNormal', kappa=True), "
                + arguments(settings['head']),
                'images:    480 x 640, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], RGB',
            ]
        )


def swin_settings(shapes: Shapes) -> dict[str, Any]:
    """Arguments of a Swin configuration.

    Raises:
        KeyError: A tensor that says how large it is is missing.
    """
    layers = f'{SWIN}swin.encoder.layers'
    depths = [
        _count(shapes, rf'{re.escape(layers)}\.{i}\.blocks\.(\d+)\.')
        for i in range(max(1, _count(shapes, rf'{re.escape(layers)}\.(\d+)\.')))
    ]
    table = 'blocks.0.attention.relative_position_bias.relative_position_bias_table'
    tables = [shapes[f'{layers}.{i}.{table}'] for i in range(len(depths))]  # ((2 window − 1)², heads)
    width = shapes[f'{SWIN}swin.embeddings.norm.weight'][0]
    return dict(
        embed_dim=width,
        depths=depths,
        num_heads=[table[1] for table in tables],
        window_size=(math.isqrt(tables[0][0]) + 1) // 2,
        mlp_ratio=shapes[f'{layers}.0.blocks.0.mlp.fc1.weight'][0] / width,
        layer_norm_eps=1e-6,
    )


def head_settings(shapes: Shapes) -> dict[str, Any]:
    """Arguments of IDiscHead that are seen from the tensors; the published rounds and heads are its defaults.

    Raises:
        KeyError: A tensor that says how large it is is missing.
    """
    decoder, partition, reader = (f'{HEAD}{part}' for part in ('pixel_decoder', 'partitioning', 'decoders'))
    levels = _count(shapes, rf'{re.escape(decoder)}\.project\.(\d+)\.')
    projections = [shapes[f'{decoder}.project.{i}.0.weight'] for i in range(max(1, levels))]
    channels = projections[0][0]
    _, idrs, idr_channels = shapes[f'{partition}.priors.0']
    return dict(
        in_channels=[shape[1] for shape in projections][::-1],
        channels=channels,
        layers=_count(shapes, rf'{re.escape(decoder)}\.layers\.(\d+)\.'),
        heads=HEADS,
        points=shapes[f'{decoder}.layers.0.attention.scores.weight'][0] // (HEADS * levels),
        resolutions=_count(shapes, rf'{re.escape(partition)}\.priors\.(\d+)'),
        idrs=idrs,
        idr_channels=idr_channels,
        decoder_layers=_count(shapes, rf'{re.escape(reader)}\.0\.mlp\.(\d+)\.'),
        expansion=shapes[f'{reader}.0.mlp.0.1.weight'][0] // channels,
    )


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand in the group of a pattern at the beginning of names."""
    found = (re.match(pattern, name) for name in shapes)
    return len({match[1] for match in found if match})


def _relative_positions(side: int) -> Tensor:
    """(N, N) row of the bias table for each pair of a window's N pixels; side = 2 window − 1 (Swin, section 3.2)."""
    window = (side + 1) // 2
    pixels = torch.cartesian_prod(torch.arange(window), torch.arange(window))  # (N, 2): row, column
    moved = pixels[:, None] - pixels[None] + window - 1
    return moved[..., 0] * side + moved[..., 1]
