"""The neck and the head that the tensors of a VPD checkpoint describe, built to know which tensors they need.

K classes. Names are ours: ``neck.``, and ``decode_head.head.`` inside the GenerativeDecodeHead.
"""

from collections.abc import Mapping, Sequence

import torch
from mmseg.registry import MODELS
from torch import nn

HEAD = 'decode_head.head'
Shapes = Mapping[str, tuple[int, ...]]


def segmentation_modules(shapes: Shapes) -> dict[str, nn.Module]:
    """FPN and FPNHead, on the meta device, by the prefix of their names.

    Raises:
        KeyError: A tensor that says how wide they are is missing.
    """
    laterals, prefix = [shapes['neck.lateral_convs.0.conv.weight']], 'neck.lateral_convs.'
    levels = len({name.removeprefix(prefix).split('.')[0] for name in shapes if name.startswith(prefix)})
    laterals += [shapes[f'{prefix}{i}.conv.weight'] for i in range(1, levels)]
    scales = [shapes[f'{HEAD}.scale_heads.{i}.0.conv.weight'] for i in range(levels)]
    classes, channels = shapes[f'{HEAD}.conv_seg.weight'][:2]
    neck = dict(
        type='FPN', in_channels=[shape[1] for shape in laterals], out_channels=laterals[0][0], num_outs=levels
    )  # fmt: skip
    head = dict(
        type='FPNHead',
        in_channels=[shape[1] for shape in scales],
        in_index=list(range(levels)),
        feature_strides=[4 * 2**i for i in range(levels)],
        channels=channels,
        num_classes=classes,
        norm_cfg=dict(type='BN'),  # the names of SyncBN are the same
    )
    return _built({'neck': neck, HEAD: head})


def depth_modules(shapes: Shapes, widths: Sequence[int]) -> dict[str, nn.Module]:
    """mmseg's VPDDepthHead, on the meta device, by the prefix of its names.

    Args:
        shapes: Of all tensors.
        widths: Channels of the features that the head is given, fine to coarse.

    Raises:
        KeyError: A tensor that says how wide it is is missing.
        ValueError: The U-Net has other than four levels.
    """
    if len(widths) != 4:
        raise ValueError(f"VPD's depth head reads four levels of the U-Net; this one has {len(widths)}")
    deconvolutions = [s for n, s in shapes.items() if n.startswith(f'{HEAD}.decoder.deconv_layers.') and len(s) == 4]
    head = dict(
        type='VPDDepthHead',
        in_channels=list(widths),
        embed_dim=shapes[f'{HEAD}.depth_pred_layer.0.weight'][0],
        feature_dim=shapes[f'{HEAD}.conv_aggregation.0.weight'][0],
        num_deconv_layers=len(deconvolutions),
        num_deconv_filters=[shape[1] for shape in deconvolutions],
    )
    return _built({HEAD: head})


def _built(configs: dict[str, dict]) -> dict[str, nn.Module]:
    with torch.device('meta'):
        return {prefix: MODELS.build(config) for prefix, config in configs.items()}
