"""One hash of all that a stage's result depends on: its config, data, first weights, and the stages before it."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmdiff2in1.core.folders import files_below
from mmdiff2in1.core.names import type_name
from mmdiff2in1.engine.stage_folder import StageFolder
from mmdiff2in1.generators.weights import find_weights
from mmdiff2in1.models.self_improving.trained_teacher import model_config
from mmdiff2in1.models.self_improving.whole_loading import MAY_DIFFER
from mmdiff2in1.synthesis import SampleStore

from .data_identity import data_facts
from .file_digests import sampled_digest
from .view_settings import KEY, CachedViews

TRAINED_BY = (
    'model',
    'data_preprocessor',
    'train_dataloader',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'global_batch_size',
    'custom_hooks',
    'val_dataloader',
    'val_evaluator',
    'val_cfg',
    'randomness',
    'default_scope',
    KEY,
    MAY_DIFFER,
)
"""Keys of a config that decide what a training gives: not those that say where things are or how they are shown."""
TESTED_BY = (
    'model',
    'data_preprocessor',
    'test_dataloader',
    'test_evaluator',
    'test_cfg',
    'randomness',
    'default_scope',
)
READ = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')
PLACED = ('store', 'data_root', 'data_prefix', 'ann_file')
"""Where the data are; what they are is in :func:`~mmdiff2in1.training.data_identity.data_facts`."""
COMPUTED = ('gradient_checkpointing',)
"""How a step is computed: in less memory, to the same gradients."""
SHOWING_HOOKS = ('ProgressBarHook', 'SegVisualizationHook')
WEIGHTS = ('diffusion', 'class_embeddings')
"""Keys whose text names weights on disk."""
LONGEST = 4096
"""Characters of a path."""


@dataclass(frozen=True)
class Identity:
    """`fingerprint`: hash of all that decides what a stage gives. `made_from`: what that is, JSON values by keys of the
    config, 'weights', 'data' and what the stage builds on, to tell two stages apart for a person."""

    fingerprint: str
    made_from: dict[str, Any]

    def folder(self, path: str | Path) -> StageFolder:
        """The folder of the stage."""
        return StageFolder(Path(path), self.fingerprint, self.made_from)


def identity(cfg: Config, parents: Mapping[str, str] = {}, decisive: Sequence[str] = TRAINED_BY) -> Identity:  # noqa: B006
    """Of a stage.

    Args:
        cfg: The stage's config. Places, pictures, logs and loader speed do not count; the content of all files that it
            names does, and so do the names of the data and the content of the labels.
        parents: Identities of what the stage builds on, such as the warm-up and the store, by what they are called.
        decisive: The keys of the config that are asked: ``TRAINED_BY`` or ``TESTED_BY``.

    Raises:
        TypeError: A config value that is neither plain nor a class or function.
        ValueError: Data that cannot be listed.
    """
    plain: dict = {key: value for key, value in cfg.to_dict().items() if key in decisive}
    cached = CachedViews.of(plain)
    plain.pop(KEY, None)
    if cached is not None:
        plain[KEY] = cached.decisive
    if 'custom_hooks' in decisive:
        hooks = plain.get('custom_hooks') or []
        plain['custom_hooks'] = [hook for hook in hooks if type_name(hook) not in SHOWING_HOOKS]
    data = {}
    for name in [key for key in decisive if key.endswith('_dataloader') and plain.get(key)]:
        data[name] = data_facts(plain[name])
        plain[name] = _without(plain[name], (*READ, *PLACED))
        # Scores do not depend on it; in a training it may follow from the number of processes.
        if name != 'train_dataloader' or plain.get('global_batch_size'):
            plain[name].pop('batch_size', None)
    plain = _with_teachers(plain)
    weights = [(Path(place).name, weights_mark(place)) for place in weight_places(plain)]
    decided = _files_by_content(_without(_nameless(plain), COMPUTED))
    marks = [sorted(mark for _, mark in weights), [each.mark for each in data.values()], list(parents.values())]
    text = json.dumps([decided, *marks], sort_keys=True, default=_named)
    made_from: dict = json.loads(json.dumps(decided, default=_named))
    made_from |= {'weights': dict(weights), 'data': {name: each.parts for name, each in data.items()}, **parents}
    return Identity(hashlib.sha256(text.encode()).hexdigest(), made_from)


def fingerprint(cfg: Config, parents: Mapping[str, str] = {}, decisive: Sequence[str] = TRAINED_BY) -> str:  # noqa: B006
    """That of `identity`."""
    return identity(cfg, parents, decisive).fingerprint


def store_mark(store: SampleStore) -> str:
    """Identity of the samples in a store, with the labels of their own that they have."""
    samples = []
    for record in store.records():
        labels = {task: label['sha256'] for task, label in record.get('labels', {}).items()}
        samples.append([record['sample_id'], record['image_sha256'], *([labels] if labels else [])])
    return hashlib.sha256(json.dumps(samples, sort_keys=True).encode()).hexdigest()


def weights_mark(place: str | Path) -> str:
    """Identity of weights on disk: names, sizes and 64 blocks of each file (gigabytes are not read whole)."""
    digest = hashlib.sha256()
    root = Path(place).expanduser()
    root = root if root.is_file() else find_weights(place)
    if root.is_file():
        files, root = [file for file in (root, root.with_suffix('.yaml')) if file.is_file()], root.parent
    else:
        # In the order of paths, not of names: an identity that was written once stays.
        files = sorted(root / name for name in files_below(root, ('.safetensors', '.json', '.bin')))
    for file in files:
        digest.update(f'{file.relative_to(root)} {sampled_digest(file)}'.encode(errors='surrogatepass'))
    return digest.hexdigest()


def weight_places(value: object) -> Iterator[str]:
    """Every string under a key of ``WEIGHTS``, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in WEIGHTS and isinstance(inner, str):
                # A file of embeddings that is not there: the model says what is wrong with it.
                if key == 'diffusion' or Path(inner).expanduser().is_file():
                    yield inner
            else:
                yield from weight_places(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from weight_places(inner)


def _with_teachers(value: object) -> Any:
    """With the model that the config of a teacher names in the place of its path: its bases count as well."""
    if isinstance(value, dict):
        found = {key: _with_teachers(inner) for key, inner in value.items()}
        if set(found) >= {'config', 'checkpoint'} and isinstance(found['config'], str | Path):
            found['config'] = model_config(found['config'])[1].to_dict()
        return found
    return [_with_teachers(inner) for inner in value] if isinstance(value, list | tuple) else value


def _nameless(value: object) -> object:
    """Without the names of weights: their content counts, wherever it lies."""
    if isinstance(value, dict):
        return {k: '' if k in WEIGHTS and isinstance(v, str) else _nameless(v) for k, v in value.items()}
    return [_nameless(v) for v in value] if isinstance(value, list | tuple) else value


def plain_by_content(value: object, without: Sequence[str]) -> object:
    """Part of a config without some keys, at any depth, and with the content of files in the place of their paths."""
    return _files_by_content(_without(value, without))


def _files_by_content(value: object) -> object:
    """With the content of every file that is named in the place of its path."""
    if isinstance(value, dict):
        return {key: _files_by_content(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_files_by_content(inner) for inner in value]
    # A name without a dot is more likely a class of things than a file that happens to lie here.
    if isinstance(value, str) and '.' in value and len(value) < LONGEST and os.path.isfile(value):
        return sampled_digest(value)
    return value


def _without(value: object, keys: Sequence[str]) -> object:
    if isinstance(value, dict):
        return {k: _without(v, keys) for k, v in value.items() if k not in keys}
    return [_without(v, keys) for v in value] if isinstance(value, list | tuple) else value


def _named(value: object) -> str:
    if hasattr(value, '__qualname__'):
        return f'{value.__module__}.{value.__qualname__}'
    raise TypeError(f'the config holds {value!r}; expected plain values, or classes and functions by name')
