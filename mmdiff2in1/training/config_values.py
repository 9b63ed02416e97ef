"""Values impossible in any config, whoever reads it: a number that is none, a class without a name, 3 for a dict.

What reads such an entry would stop somewhere inside, or take it for something else.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import Config

from .config_keys import READ

PARTS = ('backbone', 'decode_head', 'dataset', 'optimizer', 'segmentor')
"""Keys whose entry is built by its type, wherever they stand; of a warm-up they may hold changes alone."""
DICTS = (
    *('model', 'data_preprocessor', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'stages', 'optim_wrapper'),
    *('default_hooks', 'visualizer', 'log_processor', 'randomness', 'custom_imports', 'auto_scale_lr', 'warmup'),
    *('cached_views', 'synthesis', 'labelling', 'sampler', 'batch_sampler', 'neck', 'label_rule', 'data_prefix'),
)
"""Keys whose entry is a dictionary or None, wherever they stand; so are those that end in ``_cfg``."""
LISTS = ('custom_hooks', 'pipeline', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'vis_backends', 'init_cfg')
"""Keys whose entry is a dictionary, or a list of what is built by its type, or None."""
PATHS = ('diffusion', 'controlnet', 'captions', 'checkpoint', 'load_from')
"""Keys whose entry, if it is a text, names a file or a folder."""
COUNTS = dict.fromkeys(
    ('batch_size', 'num_classes', 'channels', 'in_channels', 'out_channels', 'num_outs', 'max_iters', 'max_epochs'), 1
) | {'val_interval': 1, 'num_workers': 0, 'seed': 0, 'interval': -1, 'max_keep_ckpts': -1}
"""Key → least integer that it can be, unless it is a list or left to others (None)."""
NOT_NEGATIVE = ('lr', 'weight_decay', 'eta_min', 'eta_min_ratio', 'start_factor', 'end_factor', 'max_norm')
"""Keys whose number is 0 or more."""
MAY_BE_INFINITE = ('norm_type',)
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
NEEDED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
OF_MODELS = ('data_preprocessor', 'neck', 'backbone', 'decode_head', 'segmentor', 'label_rule', 'init_cfg')
"""Keys that mean the same within a model; any other, as `model` or `sampler`, belongs to the class that has it."""
OTHERS = 'custom_keys'
"""The keys in there are names of parameters."""
TYPED = 'a dictionary with a type'

Place = tuple[str | int, ...]


def check_values(cfg: Config) -> None:
    """Looks at every entry that mmengine or this package reads.

    Raises:
        ValueError: One cannot be what its key says, with its place, what was found and what was expected.
    """
    for key in NEEDED:
        if cfg.get(key) is None:
            found = 'None' if key in cfg else 'not there'
            raise ValueError(f'{key} is {found}; expected a dictionary: nothing trains without')
    if 'stages' in cfg and not _is_dict(cfg.stages):
        raise ValueError(f'stages is {cfg.stages!r}; expected a dictionary, or no such entry for a plain training')
    if cfg.optim_wrapper == {}:
        raise ValueError('optim_wrapper is {}; expected optimizer=dict(type=…) in it')
    for key in LOADERS:
        if isinstance(cfg.get(key), Mapping) and not cfg[key].get('dataset'):
            raise ValueError(f'{key} is {dict(cfg[key])!r:.200}; expected dataset=dict(type=…) in it')
    for place, value in _entries({key: value for key, value in cfg.items() if key in READ}, ()):
        expected = _expected(place, value)
        if expected:
            raise ValueError(f'{".".join(map(str, place))} is {value!r:.200}; expected {expected}')


def _entries(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if place:
        yield place, value
    pairs: Iterable = value.items() if isinstance(value, Mapping) else ()
    if isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    for key, each in pairs:
        yield from _entries(each, (*place, key))


def _expected(place: Place, value: Any) -> str:
    """Description of what should stand in the place of the value; empty if the value may stand there."""
    key = place[-1]
    name = next((step for step in reversed(place) if isinstance(step, str)), '')
    if isinstance(value, float) and not math.isfinite(value) and not (math.isinf(value) and name in MAY_BE_INFINITE):
        return 'a finite number'
    if OTHERS in place[:-1]:
        return ''
    if isinstance(key, int):
        is_part = len(place) > 1 and place[-2] in (*LISTS, 'decode_head')
        return TYPED if is_part and not (_has_type(value) or callable(value)) else ''
    if len(place) == 2 and place[0] == 'default_hooks':
        return '' if value is None or _has_type(value) else f'{TYPED}, or None'
    if key == 'type':
        return '' if (isinstance(value, str) and value) or callable(value) else 'the name of a class, or a class'
    if place[0] == 'model' and len(place) > 1 and key in (*PARTS, *DICTS, *LISTS) and key not in OF_MODELS:
        return ''
    if key in PARTS and not isinstance(value, (list, tuple)):
        return '' if _has_type(value) or (place[0] == 'stages' and _is_dict(value)) else TYPED
    if key == 'layout' and 'synthesis' in place:
        return '' if value is None or _has_type(value) else f'{TYPED}, or None'
    if key in LISTS:
        return '' if value is None or isinstance(value, (Mapping, list, tuple)) else 'a dictionary or a list of them'
    if key in DICTS or key.endswith('_cfg'):
        return '' if value is None or _is_dict(value) else 'a dictionary'
    if key in PATHS and value == '':
        return 'the path of a file or folder, or None'
    if key in NOT_NEGATIVE and (isinstance(value, str) or isinstance(value, (int, float)) and value < 0):
        return 'a number of 0 or more'
    if place == ('log_level',):
        known = [*logging.getLevelNamesMapping()]
        return '' if isinstance(value, int) or value in known else f'one of {", ".join(known)}'
    if key in COUNTS and value is not None and not isinstance(value, (list, tuple)):
        return '' if _is_integer(value) and value >= COUNTS[key] else f'an integer of {COUNTS[key]} or more'
    return ''


def _is_dict(value: Any) -> bool:
    """Or the object that would be built of one."""
    return isinstance(value, Mapping) or (hasattr(value, '__dict__') and not isinstance(value, type))


def _has_type(value: Any) -> bool:
    return _is_dict(value) and not (isinstance(value, Mapping) and 'type' not in value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
