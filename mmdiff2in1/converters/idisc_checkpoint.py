"""A normals checkpoint that iDisc published → the state dict of our segmentor, with every tensor accounted for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdiff2in1.core.names import kind_of, listed, some
from mmdiff2in1.generators.weight_files import WeightFile

from .idisc_names import LEFT_OUT, STARTS, our_names, their_name
from .idisc_settings import HEAD, SWIN, Shapes, head_settings, needed_shapes, swin_settings

UNUSED = f'{SWIN}swin.layernorm.'
"""The norm after the last stage, which transformers' Swin has, and whose output its backbone never gives."""
_OUTPUT = f'{HEAD}decoders.0.output.3.weight'


@dataclass
class ConvertedIDisc:
    """An iDisc checkpoint in our names.

    Attributes:
        state: Our names → float32 tensors (counters keep their type); complete.
        left_out: Names in the file that have no use.
        added: Names in ``state`` that the file does not hold and nothing reads.
        swin: Arguments of the backbone's configuration.
        head: Arguments of IDiscHead.
    """

    state: dict[str, Tensor]
    left_out: list[str]
    added: list[str]
    swin: dict[str, Any]
    head: dict[str, Any]


def convert_idisc(path: str | Path) -> ConvertedIDisc:
    """Reads and renames; nothing is left over, nothing is missing.

    Args:
        path: The file that iDisc published for normals on a Swin transformer.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file, one of another kind, tensors without a place, or missing ones; they are listed.
    """
    file = WeightFile(path)
    names = {name.removeprefix('module.'): name for name in file.shapes}
    if not any(name.startswith('pixel_encoder.patch_embed.') for name in names):
        raise ValueError(
            f'{path} is no checkpoint of iDisc on a Swin transformer; found {kind_of(names, STARTS)} '
            f'({some(sorted({name.split(".")[0] for name in names}))})'
        )
    left_out = [name for name in names if LEFT_OUT.fullmatch(name)]
    places = {name: our_names(name) for name in names if name not in left_out}
    shapes = {place: _share(file.shapes[names[name]], len(ours)) for name, ours in places.items() for place in ours}
    try:
        swin, head, needed = _settings(shapes)
    except KeyError as error:
        raise ValueError(f'{path}: a tensor that iDisc has is missing: {their_name(error.args[0])}') from error
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    added = [name for name in needed if name not in shapes and name.startswith(UNUSED)]
    missing = (their_name(name) for name in needed if name not in shapes and name not in added)
    wrong = {
        'without a place': [name for name, ours in places.items() if not ours or ours[0] not in needed],
        'missing': list(dict.fromkeys(missing)),
        'of another shape': [
            f'{name} {list(file.shapes[names[name]])}, expected {list(_together(needed[ours[0]], len(ours)))}'
            for name, ours in places.items()
            if ours and ours[0] in needed and file.shapes[names[name]] != _together(needed[ours[0]], len(ours))
        ],
    }
    if any(wrong.values()):
        raise ValueError(
            f'{path} is not a normals checkpoint that iDisc published on a Swin transformer: tensors {listed(wrong)}'
        )
    values = file.read('')
    state: dict[str, Tensor] = {}
    for name, ours in places.items():
        value = values[names[name]]
        value = value.to(torch.float32 if value.is_floating_point() else value.dtype)
        parts = value.chunk(len(ours)) if len(ours) > 1 else [value]
        state |= {place: part.clone() for place, part in zip(ours, parts, strict=True)}
    state |= {name: torch.full(needed[name], float(name.endswith('weight'))) for name in added}
    return ConvertedIDisc(state, left_out, added, swin, head)


def _settings(shapes: Shapes) -> tuple[dict[str, Any], dict[str, Any], Shapes]:
    """Arguments of backbone and head, and the shapes of all their tensors."""
    channels = shapes[_OUTPUT][0]
    if channels != 4:
        raise ValueError(
            f'its head puts out {channels} channels, expected 4 of a normals model; a depth model takes the '
            'exponential of its output, which our head does not'
        )
    swin, head = swin_settings(shapes), head_settings(shapes)
    return swin, head, needed_shapes(swin, head)


def _share(shape: tuple[int, ...], parts: int) -> tuple[int, ...]:
    """Shape of one of `parts` equal pieces along the first dimension."""
    return shape if parts == 1 else (shape[0] // parts, *shape[1:])


def _together(shape: tuple[int, ...], parts: int) -> tuple[int, ...]:
    """Shape of so many equal pieces one after another along the first dimension."""
    return shape if parts == 1 else (shape[0] * parts, *shape[1:])
