"""Changes to a config as they are typed: `a.b=c`."""

import argparse
import ast
from collections.abc import Mapping
from typing import Any

from mmengine.config import DictAction

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
