"""Every checkpoint that mmengine reads in this process goes through `read_checkpoint_file`, whoever asks for it.

mmengine chooses a reader by the beginning of a name (`load_from`, `resume`, `init_cfg=dict(type='Pretrained')`, mmseg's
backbones, `init_model`), and its own run what is in a file as soon as the safe way fails. Importing this module puts
others in their place, by mmengine's own registration.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from torch import Tensor

from mmdiff2in1.generators.checkpoint_file import read_checkpoint_file


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """A file; without the config in Python that `Runner.resume` would run, if one lies in its `meta`.

    Raises ValueError for one that holds no tensors by name, under ``state_dict`` where it has that; and as
    `read_checkpoint_file`.
    """
    found = read_checkpoint_file(filename, map_location)
    state = found.get('state_dict', {}) if isinstance(found, dict) else None
    others = [name for name, value in state.items() if not isinstance(value, Tensor)] if isinstance(state, dict) else []
    others = [name for name in others if not str(name).endswith('_extra_state')]
    if not isinstance(state, dict) or others:
        inside = f'{others[0]} in its state_dict' if others else type(found).__name__
        raise ValueError(f'{filename}: found {inside}, expected a checkpoint: tensors by name, under state_dict')
    meta = found.get('meta')
    if isinstance(meta, dict):
        meta.pop('config', None)
    return found


def load_from_http(filename: str, map_location: Any = None) -> Any:
    """An address; fetched once, by the first process, to where torch keeps what it fetches."""
    file = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(filename).path).name)
    rank, world_size = get_dist_info()
    if rank == 0 and not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(filename, str(file), progress=os.isatty(0))
    if world_size > 1:
        barrier()
    return load_from_local(str(file), map_location)


def _named(models: Callable[[], dict[str, str]]) -> Callable[[str, Any], Any]:
    """A reader of names such as torchvision://resnet50, which `models` turns into addresses."""

    def load_from_named(filename: str, map_location: Any = None) -> Any:
        known, name = models(), filename.split('://', 1)[1]
        if name not in known:
            raise ValueError(f'{filename}: mmengine knows no such model; name a file or an address')
        place = known[name]
        if '://' in place:
            return load_from_http(place, map_location)
        raise ValueError(f'{filename} stands for {place}, which is no address; name the file itself')

    return load_from_named


def _open_mmlab_models() -> dict[str, str]:
    known = get_external_models()
    return known | {old: known[new] for old, new in get_deprecated_model_names().items() if new in known}


def _load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """The backbone of a classifier."""
    found = _named(get_mmcls_models)(filename, map_location)
    state = found.get('state_dict', found)
    start = 'backbone.'
    return dict(state_dict={name.removeprefix(start): each for name, each in state.items() if name.startswith(start)})


def load_from_elsewhere(filename: str, map_location: Any = None) -> Any:
    """Stores of objects in a network."""
    raise ValueError(f'{filename} lies in a store that is not read here; copy it to a file, and name that')


READERS: dict[Callable, list[str]] = {
    load_from_local: [''],
    load_from_http: ['http://', 'https://'],
    _named(get_torchvision_models): ['modelzoo://', 'torchvision://'],
    _named(_open_mmlab_models): ['open-mmlab://', 'openmmlab://'],
    _load_from_mmcls: ['mmcls://'],
    load_from_elsewhere: ['pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'],
}
for reader, prefixes in READERS.items():
    CheckpointLoader.register_scheme(prefixes, reader, force=True)
