"""One reader of configs."""

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from .config_places import find_config

# `_base_ = ['mmdiff2in1::diff2in1/vpd_scenes.py']` and `['mmseg::…']`: mmengine asks this table which package has them.
MODULE2PACKAGE['mmdiff2in1'] = 'mmdiff2in1'
if importlib.util.find_spec('mmseg') and 'onedl-mmsegmentation' in metadata.packages_distributions().get('mmseg', ()):
    MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'


def read_config(place: str | Path) -> Config:
    """The config of a file or of a built-in name, see :func:`find_config`.

    Raises:
        FileNotFoundError: See :func:`find_config`, and for a `_base_` that is not there.
    """
    cfg = Config.fromfile(find_config(place))
    _without_scope(cfg._cfg_dict)
    return cfg


def _without_scope(part: Any) -> None:
    """Takes out what mmengine notes in a `_base_` of a package: ours registers in mmseg's scope, and has none of its
    own."""
    if isinstance(part, dict):
        if part.get('_scope_') == 'mmdiff2in1':
            del part['_scope_']
        for value in part.values():
            _without_scope(value)
    elif isinstance(part, list | tuple):
        for value in part:
            _without_scope(value)
