"""Changes to a config as they are typed: `a.b=c`."""

import argparse
import ast
import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.utils import import_modules_from_strings

WORDS = {'true': True, 'false': False, 'none': None}


def option_values(typed: Mapping[str, str]) -> dict[str, Any]:
    """Keys with what their texts mean, for ``Config.merge_from_dict``."""
    return {key: option_value(text) for key, text in typed.items()}


def option_value(text: str) -> Any:
    """Value that a text stands for.

    Python's own literals; words, with or without spaces, are strings; `a,b` and `[a,b]` are lists, `(a,b)` a tuple, as
    with mmengine's ``DictAction``, which would take the spaces out of a sentence.
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        sentence = ' ' in text.strip() and text.strip()[0] not in '[('
        return text if sentence else _as_mmengine(text)
    bare = isinstance(value, tuple) and not text.lstrip().startswith('(')
    return list(value) if bare else value


def _as_mmengine(text: str) -> Any:
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction)
    return parser.parse_args(['--options', f'value={text}']).options['value']


def change(cfg: Config, changes: Mapping[str, Any]) -> None:
    """Makes changes to a config, by dotted keys; parts of lists are counted from 0.

    Modules that they name in ``custom_imports`` are imported, as those of a file are when it is read.

    Raises:
        ValueError: A key leads into what is neither a mapping nor a list, or to no place in a list; a module that
            cannot be imported.
    """
    fault = _fault(cfg, changes)
    if fault is None:
        if any(key.partition('.')[0] == 'custom_imports' for key in changes):
            _import(cfg.get('custom_imports') or {})
        return
    for key, value in changes.items():
        alone = _fault(copy.deepcopy(cfg), {key: value})
        if alone is not None:
            raise ValueError(f'--cfg-options {key}: cannot be changed to {value!r}: {alone}') from alone
    raise ValueError(f'--cfg-options {", ".join(changes)}: cannot be changed together: {fault}') from fault


def _import(named: Mapping[str, Any]) -> None:
    try:
        import_modules_from_strings(**named)
    except (ImportError, TypeError) as error:
        reason = '' if error.__context__ is None else f': {error.__context__}'
        raise ValueError(f'--cfg-options custom_imports: {error}{reason}') from error


def _fault(cfg: Config, changes: Mapping[str, Any]) -> Exception | None:
    """What mmengine raises at changes that cannot be made."""
    try:
        cfg.merge_from_dict(dict(changes))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return error
    return None
