"""Reading what others wrote: their JSON, and what their libraries say about files that they cannot load."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUNS_CODE = ('trust_remote_code', 'weights_only')
"""Switches that libraries advise to set, with which what lies in or beside a file would be run."""
TELLING = (OSError, ValueError, RuntimeError, ImportError)
"""Errors whose text can be read without their name."""


def reason_of(error: Exception) -> str:
    """Text of a library's ``error``, in one line at least; its advice to run code is not passed on."""
    text = str(error).strip()
    if any(switch in text for switch in RUNS_CODE):
        return 'it asks to run code that lies beside the weights or in them, and such code is not run here'
    if isinstance(error, TELLING) and text and not isinstance(error, UnicodeError):
        return text
    return f'{type(error).__name__} {text}'.strip()


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turns what a library says about damaged files in ``folder`` into a ValueError that names the folder.

    Bars of transformers, of weights that are read in a moment, are not shown.
    """
    from transformers.utils import logging  # takes a second; whoever loads has imported it

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # tokenizers raises nothing finer; transformers and diffusers index what they read
        raise ValueError(
            f'{folder} cannot be loaded, its files are damaged or do not fit: {reason_of(error)}'
        ) from error
    finally:
        if shown:
            logging.enable_progress_bar()


def read_json(path: Path) -> dict:
    """The object in the JSON file at ``path``.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is damaged, or holds something else; it is named.
    """
    try:
        found = json.loads(path.read_text('utf-8-sig'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not valid JSON: {error}') from error
    if not isinstance(found, dict):
        raise ValueError(f'{path} holds a {type(found).__name__}, expected an object: {{…}}; is it the right file?')
    return found
