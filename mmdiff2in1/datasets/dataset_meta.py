"""Names and colours of a config's data set, read off its class: nothing is listed or built."""

from collections.abc import Mapping

from mmseg.registry import DATASETS


def dataset_meta_of(cfg: Mapping) -> dict:
    """`classes` and `palette` of the data set that a config tests on, as far as its class or `metainfo` says."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    kind = dataset.get('type')
    known = DATASETS.get(kind) if isinstance(kind, str) else kind
    return {**getattr(known, 'METAINFO', {}), **(dataset.get('metainfo') or {})}
