"""A checkpoint that Bae et al. published → the state dict of our segmentor, with every tensor accounted for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdiff2in1.core.names import kind_of, listed, some
from mmdiff2in1.generators.weight_files import WeightFile
from mmdiff2in1.models.backbones.hf_backbone import HFBackbone
from mmdiff2in1.models.decode_heads.bae_normal_head import BaeNormalHead

from .bae_names import DECODER, STARTS, our_names

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
Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class ConvertedBae:
    """A checkpoint of Bae et al. in our names.

    Attributes:
        state: Our names → float32 tensors (counters keep their type); complete.
        backbone: Arguments of HFBackbone.
        head: Arguments of BaeNormalHead.
    """

    state: dict[str, Tensor]
    backbone: dict[str, Any]
    head: dict[str, Any]


def convert_bae(path: str | Path, encoder: dict[str, Any] | None = None) -> ConvertedBae:
    """Reads and renames; nothing is left over, nothing is missing.

    Args:
        path: The file that Bae et al. published, for NYUv2 (GN) or ScanNet (BN).
        encoder: Fields of the EfficientNet; None: the published B5.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file, one of another kind, tensors without a place, of another shape, or missing ones;
            they are listed.
    """
    file = WeightFile(path)
    names = {name.removeprefix('module.'): name for name in file.shapes}
    shapes = {name: file.shapes[full] for name, full in names.items()}
    if f'{DECODER}out_conv_res1.0.weight' not in shapes:
        raise ValueError(
            f'{path} is no checkpoint of Bae et al. with point heads; found {kind_of(names, STARTS)} '
            f'({some(sorted({name.split(".")[0] for name in names}))})'
        )
    places = our_names(shapes)
    backbone = dict(model=dict(encoder or EFFICIENTNET_B5))
    try:
        head = head_settings(shapes)
    except KeyError as error:
        raise ValueError(f'{path}: a tensor that Bae et al. have is missing: {error.args[0]}') from error
    needed = needed_shapes(backbone, head)
    found = {place for place in places.values() if place}
    wrong = {
        'without a place': [name for name, place in places.items() if place not in needed],
        'missing (in our names)': [name for name in needed if name not in found],
        'of another shape': [
            f'{name} {list(shapes[name])}, expected {list(needed[place])}'
            for name, place in places.items()
            if place in needed and shapes[name] != needed[place]
        ],
    }
    if any(wrong.values()):
        raise ValueError(f'{path} is not a checkpoint that Bae et al. published: tensors {listed(wrong)}')
    values = file.read('')
    state = {}
    for name, place in places.items():
        value = values[names[name]]
        state[place] = value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True)
    return ConvertedBae(state, backbone, head)


def head_settings(shapes: Shapes) -> dict[str, Any]:
    """Arguments of the head that the decoder's tensors describe."""
    widths = [shapes[f'{DECODER}up{i}._net.0.weight'][0] for i in (1, 2, 3, 4)]
    coarsest = shapes[f'{DECODER}conv2.weight'][0]
    skips = [
        shapes[f'{DECODER}up{i}._net.0.weight'][1] - before
        for i, before in zip((1, 2, 3, 4), [coarsest, *widths[:-1]], strict=True)
    ]
    return dict(
        in_channels=[*skips[::-1], coarsest],
        task=dict(type='SurfaceNormal', kappa=True),
        norm='BN' if f'{DECODER}up1._net.1.running_mean' in shapes else 'GN',
        widths=widths,
        point_channels=shapes[f'{DECODER}out_conv_res1.0.weight'][0],
    )


def needed_shapes(backbone: dict[str, Any], head: dict[str, Any]) -> Shapes:
    """Our names → shapes, of all tensors of a backbone and a head with these arguments."""
    with torch.device('meta'):
        modules: dict[str, torch.nn.Module] = {'backbone': HFBackbone(**backbone), 'decode_head': BaeNormalHead(**head)}
    return {
        f'{prefix}.{name}': tuple(tensor.shape)
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
