"""What may be wrong with a config: every entry, in every way that a slip of the hand or of the mind has."""

import copy
import random
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

SECTIONS = (
    *('model', 'stages', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'train_dataloader'),
    *('val_dataloader', 'val_evaluator', 'test_dataloader', 'test_evaluator', 'default_hooks', 'custom_hooks'),
    *('test_cfg', 'randomness', 'env_cfg', 'custom_imports'),
)
"""Parts of a config that decide a result; logs and looks do not."""
SILENT = ('vis_backends', 'meta')
"""Entries that hold what nobody reads, or only looks at."""

NEVER_MEANT = (
    *('wrong type', 'misspelt key', 'unknown key', 'misspelt value', 'text', 'nan', 'infinite', 'negative'),
    'one too many',
)
"""Ways that leave no config that anybody could have wanted; the others may be another setting as good as any."""

Path = tuple[str | int, ...]


def mutations(config: Config, rng: random.Random) -> Iterator[tuple[Path, str, Config]]:
    """All mutations of a config, in an order that the generator draws.

    Yields:
        The place, what was done there, and a copy of the config with that done; the config itself stays as it is.
    """
    chosen = [
        (path, how)
        for path, value in _entries({name: config[name] for name in SECTIONS if config.get(name) is not None}, ())
        for how in _ways(path, value)
    ]
    rng.shuffle(chosen)
    for path, how in chosen:
        changed = copy.deepcopy(config)
        place = changed
        for step in path[:-1]:
            place = place[step]
        done = _change(place, path[-1], how, rng)
        yield path, done, changed


def _entries(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Each entry of nested dictionaries and lists, those that hold others included."""
    if path:
        yield path, value
    if isinstance(value, dict):
        pairs = [(key, each) for key, each in value.items() if key not in SILENT]
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        pairs = list(enumerate(value))
    else:
        return
    for key, each in pairs:
        yield from _entries(each, (*path, key))


def _ways(path: Path, value: Any) -> list[str]:
    ways = ['none', 'wrong type', 'deleted']
    if isinstance(path[-1], str) and len(path) > 1:
        ways.append('misspelt key')
    if isinstance(value, bool):
        return ways
    if isinstance(value, (int, float)):
        channels = [] if isinstance(value, float) or 'channels' not in str(path[-1]) else ['one too many']
        return [*ways, *channels, 'negative', 'zero', 'huge', 'nan', 'infinite', 'text']
    if isinstance(value, str):
        return [*ways, 'misspelt value', 'empty']
    if isinstance(value, dict):
        return [*ways, 'unknown key', 'empty']
    if isinstance(value, (list, tuple)):
        return [*ways, 'empty', 'one less', 'one more'] if value else ways
    return ways


def _change(place: Any, key: str | int, how: str, rng: random.Random) -> str:
    """Does it; what was done."""
    value = place[key]
    if how == 'deleted':
        place.pop(key)
        return how
    if how == 'misspelt key':
        wrong = misspelt(str(key), rng)
        place[wrong] = place.pop(key)
        return f'{how} {wrong}'
    if how == 'unknown key':
        value['no_such_setting'] = 1
        return how
    new: Any = {
        'none': lambda: None,
        'wrong type': lambda: 3 if isinstance(value, (str, dict)) else dict(a=1),
        'negative': lambda: -abs(value) or -1,
        'zero': lambda: 0 if value else -1,
        'huge': lambda: 10**12 if isinstance(value, int) else 1e30,
        'nan': lambda: float('nan'),
        'infinite': lambda: float('inf'),
        'one too many': lambda: value + 1,
        'text': lambda: f'{value} or so',
        'misspelt value': lambda: misspelt(value, rng),
        'empty': lambda: type(value)(),
        'one less': lambda: type(value)(list(value)[:-1]),
        'one more': lambda: type(value)([*value, value[-1]]),
    }[how]()
    place[key] = new
    return how if isinstance(new, dict) else f'{how} {new!r}'[:200]


def misspelt(name: str, rng: random.Random) -> str:
    """With two neighbouring letters in each other's place, or the last one twice."""
    places = [i for i in range(len(name) - 1) if name[i] != name[i + 1]]
    if not places:
        return name + (name[-1:] or 'x')
    i = rng.choice(places)
    return name[:i] + name[i + 1] + name[i] + name[i + 2 :]
