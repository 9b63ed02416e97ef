"""The finished rows, one JSON line each; a row that is run again replaces its line."""

import json
from pathlib import Path
from typing import Any

from mmdiff2in1.core.atomic_files import write_atomically

from .catalogue import ROWS


def read_lines(file: Path) -> dict[str, dict[str, Any]]:
    """Row → its line; empty without the file."""
    if not file.is_file():
        return {}
    lines = map(json.loads, file.read_text(encoding='utf-8').splitlines())
    return {line['row']: line for line in lines}


def write_line(file: Path, line: dict[str, Any]) -> None:
    """Puts a line into the file, in the order of the catalogue; rows that left the catalogue go."""
    lines = read_lines(file) | {line['row']: line}
    kept = [lines[row.name] for row in ROWS if row.name in lines]
    text = ''.join(json.dumps(each, ensure_ascii=False) + '\n' for each in kept)
    write_atomically(file, text.encode())
