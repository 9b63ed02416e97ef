"""What a stage's result depends on, as one hash: its config, the weights it starts from, and the stages before it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config

from mmdiff2in1.generators.weights import find_weights
from mmdiff2in1.synthesis import SampleStore

# Where things are, how they are shown, how fast they are read: none of it changes what is trained.
PLACES = ('work_dir', 'load_from', 'resume', 'launcher', 'filename', 'experiment_name', 'model_wrapper_cfg', 'env_cfg')
DISTRIBUTED = ('find_unused_parameters',)
SHOWN = ('log_level', 'log_processor', 'visualizer', 'vis_backends', 'default_hooks')
TESTED = ('test_dataloader', 'test_evaluator', 'test_cfg', 'tta_model', 'tta_pipeline')
READ = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'store')
COMPUTED = ('gradient_checkpointing',)
"""How a step is computed: in less memory, to the same gradients."""
SHOWING_HOOKS = ('ProgressBarHook', 'SegVisualizationHook')
SAMPLED = 64, 1 << 16
"""Blocks and bytes per block that are read of a weight file."""
WEIGHTS = ('diffusion', 'class_embeddings')
"""Keys whose text names weights on disk."""


def fingerprint(cfg: Config, parents: Sequence[str] = ()) -> str:
    """Hash of all that decides what a stage trains.

    Args:
        cfg: The stage's config. Places, pictures, logs, test sets and loader speed do not count; the content of all
            weights that it names does.
        parents: Identities of what the stage builds on, such as the warm-up and the store.

    Raises:
        TypeError: A config value that is neither plain nor a class or function.
    """
    plain: dict = {k: v for k, v in cfg.to_dict().items() if k not in (*PLACES, *SHOWN, *TESTED, *DISTRIBUTED)}
    plain['custom_hooks'] = [hook for hook in plain.get('custom_hooks') or [] if hook['type'] not in SHOWING_HOOKS]
    for loader in ('train_dataloader', 'val_dataloader'):
        plain[loader] = _without(plain.get(loader), READ) or {}
    plain['val_dataloader'].pop('batch_size', None)
    if plain.get('global_batch_size'):  # what each process has of it follows from their number
        plain['train_dataloader'].pop('batch_size', None)
    weights = sorted(weights_mark(place) for place in weight_places(plain))
    decisive = _without(_nameless(plain), COMPUTED)
    text = json.dumps([decisive, weights, list(parents)], sort_keys=True, default=_named)
    return hashlib.sha256(text.encode()).hexdigest()


def store_mark(store: SampleStore) -> str:
    """Identity of the samples in a store."""
    samples = [(record['sample_id'], record['image_sha256']) for record in store.records()]
    return hashlib.sha256(json.dumps(samples).encode()).hexdigest()


def weights_mark(place: str | Path) -> str:
    """Identity of weights on disk: names, sizes and 64 blocks of each file (gigabytes are not read whole)."""
    digest = hashlib.sha256()
    root = Path(place).expanduser()
    root = root if root.is_file() else find_weights(place)
    if root.is_file():
        files, root = [file for file in (root, root.with_suffix('.yaml')) if file.is_file()], root.parent
    else:
        files = sorted(file for kind in ('safetensors', 'json', 'bin') for file in root.rglob(f'*.{kind}'))
    for file in files:
        size, (blocks, length) = file.stat().st_size, SAMPLED
        digest.update(f'{file.relative_to(root)} {size}'.encode())
        with open(file, 'rb') as stream:
            for offset in sorted({i * max(0, size - length) // (blocks - 1) for i in range(blocks)}):
                stream.seek(offset)
                digest.update(stream.read(length))
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


def _nameless(value: object) -> object:
    """Without the names of weights: their content counts, wherever it lies."""
    if isinstance(value, dict):
        return {k: '' if k in WEIGHTS and isinstance(v, str) else _nameless(v) for k, v in value.items()}
    return [_nameless(v) for v in value] if isinstance(value, list | tuple) else value


def _without(value: object, keys: Sequence[str]) -> object:
    if isinstance(value, dict):
        return {k: _without(v, keys) for k, v in value.items() if k not in keys}
    return [_without(v, keys) for v in value] if isinstance(value, list | tuple) else value


def _named(value: object) -> str:
    if hasattr(value, '__qualname__'):
        return f'{value.__module__}.{value.__qualname__}'
    raise TypeError(f'the config holds {value!r}; expected plain values, or classes and functions by name')
