"""The config of a model's folder: JSON, which holds values and runs nothing, and may name registered classes only.

JSON has no tuples, of which some classes ask for one: `tuples` lists where they stood.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.utils import import_modules_from_strings

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.names import some, type_name
from mmdiff2in1.generators.reading import read_json

CONFIG = 'config.json'
SCOPES = ('mmengine', 'mmcv', 'mmseg', 'mmpretrain', 'mmdiff2in1')
RUNS = ('.py', '.pkl', '.pickle', '.yaml', '.yml')
"""Files that libraries of OpenMMLab run, or that may run something, when a config names them."""


def write_folder_config(folder: Path, cfg: Config) -> None:
    """Writes what :func:`read_folder_config` reads.

    Raises:
        ValueError: It holds what JSON cannot: objects, or keys that are no text.
    """
    plain = _named(cfg.to_dict())
    tuples = ['.'.join(place) for place in _tuples(plain)]
    try:
        text = json.dumps({**plain, 'tuples': tuples}, indent=2)
    except TypeError as error:
        raise ValueError(
            f'the config cannot be written as JSON: {error}; expected numbers, texts, lists, dicts'
        ) from error
    try:
        same = _with_tuples(json.loads(text)) == plain
    except (KeyError, IndexError, TypeError, ValueError):
        same = False
    if not same:
        raise ValueError('the config cannot be written as JSON: a key of it is no text, or holds a dot')
    write_atomically(folder / CONFIG, (text + '\n').encode())


def read_folder_config(folder: Path) -> Config:
    """The config, with the modules imported that it asks for.

    Only modules of this package are imported; others are the user's to import before. A class must be registered:
    mmengine would import any other text, which could be a function of any module, or a file that lies nearby.

    Raises:
        OSError: There is none.
        ValueError: It is damaged or no config, or names what could run code; it is said what.
    """
    path = folder / CONFIG
    found = read_json(path)
    if not isinstance(found.get('model'), dict) or not isinstance(found.get('tuples', []), list):
        raise ValueError(f'{path} describes no model, expected what `mmdiff2in1 export --folder` writes')
    try:
        plain = _with_tuples(found)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: `tuples` names a place that is not there ({error}); fetch the file again') from error
    _import_what_it_asks_for(plain.get('custom_imports') or {}, path)
    _check_names(plain, path)
    return Config(plain)


def _named(part: Any) -> Any:
    """Classes by the names under which they are registered."""
    if isinstance(part, dict):
        return {key: _named(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(map(_named, part))
    return type_name(dict(type=part)) if isinstance(part, type) else part


def _tuples(part: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where tuples stand; those inside of others first."""
    if isinstance(part, dict):
        for key, value in part.items():
            yield from _tuples(value, (*place, str(key)))
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            yield from _tuples(value, (*place, str(index)))
        if isinstance(part, tuple):
            yield place


def _with_tuples(found: dict[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in found.items() if key != 'tuples'}
    for place in found.get('tuples', []):
        *steps, last = place.split('.')
        part: Any = plain
        for step in steps:
            part = part[int(step) if isinstance(part, list) else step]
        at = int(last) if isinstance(part, list) else last
        part[at] = tuple(part[at])
    return plain


def _import_what_it_asks_for(asked: Any, path: Path) -> None:
    names = asked.get('imports') if isinstance(asked, Mapping) else asked
    names = [names] if isinstance(names, str) else list(names or ())
    ours = [name for name in names if isinstance(name, str) and name.partition('.')[0] == 'mmdiff2in1']
    others = [str(name) for name in names if name not in ours and name not in sys.modules]
    if others:
        raise ValueError(
            f'{path} needs {some(others)}, which a folder may not import by itself; if you have that code and trust '
            f'it, write `import {others[0]}` before'
        )
    import_modules_from_strings(ours)


def _check_names(plain: dict[str, Any], path: Path) -> None:
    known = _registered()
    for place, value in _texts(plain):
        key = place.rpartition('.')[2]
        scope, _, name = value.rpartition('.')
        if key in ('default_scope', '_scope_') and value not in SCOPES:
            raise ValueError(f'{path}: {place} is {value!r}, expected one of {", ".join(SCOPES)}')
        if key == 'type' and (name not in known or scope not in ('', *SCOPES)):
            raise ValueError(
                f'{path}: {place} is {value!r}, which no module that is imported has registered; expected the name of '
                'a class. A class of yours is registered once you import its module'
            )
        if value.lower().endswith(RUNS):
            raise ValueError(f'{path}: {place} names the file {value!r}, which could run code; expected none such')


def _texts(part: Any, place: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield from _texts(value, f'{place}.{key}' if place else key)
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            yield from _texts(value, f'{place}.{index}')
    elif isinstance(part, str):
        yield place, part


def _registered() -> set[str]:
    """Names in all registries of OpenMMLab."""
    names: set[str] = set()
    waiting = [each for each in vars(mmengine.registry).values() if isinstance(each, Registry)]
    while waiting:
        registry = waiting.pop()
        registry.import_from_location()
        names.update(registry.module_dict)
        waiting += registry.children.values()
    return names
