"""A packed data sample as tensors and plain facts, and back: the same maps, of the same types, the same metainfo."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

WIDE = torch.int64


def tensors_of(sample: SegDataSample) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Maps by field, and facts that are JSON values.

    Class indices (int64) of 0 … 255 are kept in a byte each.

    Raises:
        TypeError: A field that is no map, or metainfo that is neither plain nor an array, with its name.
    """
    tensors, fields = {}, {}
    for field, value in sample.items():
        if not isinstance(value, PixelData) or list(value.keys()) != ['data'] or not isinstance(value.data, Tensor):
            raise TypeError(f'{field} of a data sample is no map (PixelData of a tensor); it cannot be cached')
        narrow = value.data.dtype == WIDE and 0 <= int(value.data.min()) and int(value.data.max()) <= 255
        tensors[field] = (value.data.to(torch.uint8) if narrow else value.data).cpu().contiguous()
        fields[field] = dict(narrow=narrow, meta=_plain(dict(value.metainfo_items()), field))
    return tensors, dict(fields=fields, meta=_plain(dict(sample.metainfo_items()), 'metainfo'))


def sample_of(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> SegDataSample:
    """The inverse of :func:`tensors_of`; lists and arrays of the metainfo come back as tuples."""
    sample = SegDataSample(metainfo=_tuples(facts['meta']))
    for field, said in facts['fields'].items():
        # A file in memory must not be written to.
        data = tensors[field].to(WIDE) if said['narrow'] else tensors[field].clone()
        sample.set_data({field: PixelData(metainfo=_tuples(said['meta']), data=data)})
    return sample


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f'{name}.{key}') for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, name) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f'{name} of a data sample is a {type(value).__name__}; it cannot be cached: leave it out of meta_keys'
    )


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value
