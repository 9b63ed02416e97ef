"""Cached views: before a stage begins, the features of its views are computed, and its config reads them from disk.

See `CachedViews` for what that means, `ViewCache` for the files.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger

from mmdiff2in1.core.building import building
from mmdiff2in1.core.names import type_name
from mmdiff2in1.core.randomness import kept_randomness

from .rehearsal import scratch
from .runs import build_runner, free_memory
from .view_cache import ViewCache
from .view_settings import CachedViews


def with_cached_views(cfg: Config) -> Config:
    """The config of a stage, which reads its training set from the cache, after what is missing of it has been made.

    A config that asks for none is returned as it is. In a process group every process calls this.

    Raises:
        ValueError, OSError: See `ViewCache`.
    """
    if CachedViews.of(cfg) is None:
        return cfg
    with _cache(cfg) as cache:
        listed = cache.fill()
    free_memory()
    return reading(cfg, listed)


def reading(cfg: Config, listed: Path) -> Config:
    """A copy of a stage's config whose training set is the views that a file lists."""
    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.dataset = ConfigDict(
        type='CachedViewsDataset', dataset=_wrapped(cfg.train_dataloader.dataset), files=str(listed)
    )
    for part in (cfg.model, cfg.model.get('segmentor'), cfg):
        before = (part or {}).get('data_preprocessor')
        if before is not None:
            part.data_preprocessor = ConfigDict(type='CachedViewsPreProcessor', preprocessor=before)
    return cfg


def costs(stages: Mapping[str, Config]) -> Iterator[str]:
    """A line for each stage (title → config) on the disk and the time that its cache takes; nothing is written."""
    for title, cfg in stages.items():
        settings = CachedViews.of(cfg)
        if settings is None:
            yield f'{title}: no cached_views, every step computes its features anew'
            continue
        with _cache(cfg) as cache:
            cost, place, names = cache.cost(), cache.folder, len(cache.names)
        free_memory()
        there = f'{cost.files} files ({settings.views} views of {names} images, {settings.dtype}) in {place}'
        if not cost.missing:
            yield f'{title}: {there}, all there'
            continue
        each, all_of_it = cost.bytes / 1e6, cost.missing * cost.bytes / 1e9
        minutes = cost.missing * cost.seconds / 60
        yield (
            f'{title}: {there}, {cost.missing} of them to be made: {all_of_it:.3g} GB ({each:.3g} MB each), about '
            f'{minutes:.1f} min on one process like this one'
        )


@contextmanager
def _cache(cfg: Config) -> Iterator[ViewCache]:
    """The cache of a stage under a model that is built and loaded for it alone."""
    settings = CachedViews.of(cfg)
    assert settings is not None
    place, log = settings.place(cfg), MMLogger.get_current_instance()
    with kept_randomness(), scratch(cfg) as stage, building(cfg):
        stage.train_dataloader.dataset = _wrapped(stage.train_dataloader.dataset)
        runner = build_runner(stage)
        runner.call_hook('before_run')
        runner._init_model_weights()
        runner.load_or_resume()
        yield ViewCache(stage, runner, place, settings, log)


def _wrapped(dataset: ConfigDict) -> ConfigDict:
    """In the wrapper that every training read as a stream has."""
    if type_name(dataset) == 'SyntheticSampleDataset':
        return dataset
    return ConfigDict(type='SyntheticSampleDataset', dataset=dataset)
