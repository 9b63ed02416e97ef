"""Names, colours and numbering of a config's data set, read off its class: nothing is listed or built."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmseg.registry import DATASETS


def dataset_meta_of(cfg: Mapping) -> dict:
    """`classes` and `palette` of the data set that a config tests on, as far as its class or `metainfo` says."""
    dataset, known = _tested_on(cfg)
    return {**getattr(known, 'METAINFO', {}), **(dataset.get('metainfo') or {})}


def zero_is_ignored(cfg: Mapping) -> bool:
    """True if label files of the data set that a config tests on count from 1, and 0 is no class.

    That is mmseg's `reduce_zero_label`: as the config says it, else as the class of the data set has it (ADE20K).
    """
    dataset, known = _tested_on(cfg)
    asked = dataset.get('reduce_zero_label')
    if asked is None and known is not None:
        setting = inspect.signature(known).parameters.get('reduce_zero_label')
        asked = setting is not None and setting.default is True
    return bool(asked)


def _tested_on(cfg: Mapping) -> tuple[Mapping, Any]:
    """The config of the test set and its class, as far as they are known."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    kind = dataset.get('type')
    return dataset, DATASETS.get(kind) if isinstance(kind, str) else kind
