"""The Swin backbone and the head that an iDisc checkpoint describes, built to know which tensors they need.

Names are ours: ``backbone.model.`` and ``decode_head.``.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmdiff2in1.models.backbones.hf_backbone import HFBackbone
from mmdiff2in1.models.decode_heads.idisc_head import IDiscHead

SWIN, HEAD = 'backbone.model.', 'decode_head.'
HEADS = 4
"""Heads of the deformable attention in all published models; their number cannot be seen from shapes."""
Shapes = Mapping[str, tuple[int, ...]]


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


def needed_shapes(swin: dict[str, Any], head: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of backbone and head with these settings."""
    with torch.device('meta'):
        parts: dict[str, nn.Module] = {
            'backbone.': HFBackbone(dict(model_type='swin', **swin)),
            HEAD: IDiscHead(task=dict(type='SurfaceNormal', kappa=True), **head),
        }
    return {
        prefix + name: tuple(tensor.shape)
        for prefix, part in parts.items()
        for name, tensor in part.state_dict().items()
    }


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand in the group of a pattern at the beginning of names."""
    found = (re.match(pattern, name) for name in shapes)
    return len({match[1] for match in found if match})
