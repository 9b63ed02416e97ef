"""What a job keeps on disk to go on from, and what that must agree in."""

import io
import json
from dataclasses import asdict
from pathlib import Path

import torch

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.generators.checkpoint_file import read_checkpoint_file


def identity(*settings: object) -> str:
    """Settings, dataclasses among them, as one text."""
    return json.dumps(settings, default=asdict)


def save_state(path: Path, belongs_to: str, **state: object) -> None:
    """Writes ``state``, whole or not at all."""
    file = io.BytesIO()
    torch.save(dict(identity=belongs_to, **state), file)
    write_atomically(path, file.getvalue())


def load_state(path: Path, belongs_to: str) -> dict | None:
    """What :func:`save_state` wrote, or None where it did not.

    Raises:
        ValueError: It was made with other settings.
    """
    if not path.is_file():
        return None
    state = read_checkpoint_file(path)
    if state['identity'] != belongs_to:
        raise ValueError(f'{path} was made with other weights or settings; delete it, or choose another --work-dir')
    return state


def write_progress(folder: Path, done: int, total: int) -> None:
    """What the parent process shows."""
    (folder / 'progress.json').write_text(json.dumps([done, total]))
