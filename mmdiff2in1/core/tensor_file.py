"""Tensors and plain facts in one safetensors file that says of itself whether it is whole."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .atomic_files import write_atomically
from .digest import add_tensors

WRITTEN = 'digest and facts'
LENGTH = 64


def write_tensor_file(file: Path, tensors: Mapping[str, Tensor], facts: object) -> None:
    """Writes the file, whole or not at all; `facts` are JSON values."""
    text = json.dumps(facts)
    write_atomically(file, save(dict(tensors), {WRITTEN: _digest(tensors, text) + text}))


def read_tensor_file(file: Path) -> tuple[dict[str, Tensor], Any]:
    """Tensors, mapped into memory and not to be written to, and facts; what is in them is not compared with the digest.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is of another kind, or cut off.
    """
    tensors, text, _ = _read(file)
    return tensors, json.loads(text)


def is_whole(file: Path) -> bool:
    """True if the file is there, and holds what was written to it."""
    try:
        tensors, text, digest = _read(file)
    except (FileNotFoundError, ValueError):
        return False
    return digest == _digest(tensors, text)


def _read(file: Path) -> tuple[dict[str, Tensor], str, str]:
    try:
        with safe_open(file, 'pt') as opened:
            written = (opened.metadata() or {})[WRITTEN]  # one text: several are written in any order
            return {name: opened.get_tensor(name) for name in opened.keys()}, written[LENGTH:], written[:LENGTH]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f'{file} is damaged ({error!r})') from error


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    add_tensors(digest, tensors)
    return digest.hexdigest()
