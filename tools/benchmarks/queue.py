"""Cells one after another, each in a process of its own; every result is on the disk before the next one starts."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmdiff2in1.core.atomic_files import append_line, complete_lines

from .cells import Cell, cell_of
from .costs import model_flops
from .estimate import memory

FINAL = ('measured', 'out of memory', 'too slow')
"""Outcomes that are results; a cell that failed is tried again."""


def finished(file: Path) -> set[Cell]:
    """Cells whose result stands in `file`."""
    return {cell_of(record['cell']) for record in read_records([file]) if record['outcome'] in FINAL}


def read_records(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Records of all files, the last one of each cell and file.

    Raises ValueError for a line that is none of ours.
    """
    records: dict[tuple[str, str], dict[str, Any]] = {}
    for file in files:
        for number, line in enumerate(complete_lines(file), 1):
            try:
                record = json.loads(line)
                records[str(file), cell_of(record['cell']).name] = record
            except (ValueError, KeyError, TypeError):
                raise ValueError(f'{file}:{number}: no result of tools/benchmark.py; remove the line') from None
    return list(records.values())


def run_cells(
    cells: list[Cell],
    out: Path,
    settings: dict[str, Any],
    timeout: float,
    minutes: float | None,
    tool: Path,
) -> list[Cell]:
    """Measures `cells`; returns those that were not reached or failed.

    Args:
        cells: In this order.
        out: JSON lines; one is appended for each cell.
        settings: Arguments of `measure_cell`.
        timeout: Seconds after which a cell is given up as too slow.
        minutes: A cell that is not finished after so many minutes of this call is left for the next one.
        tool: The script whose child does the work.
    """
    left, start = [], time.perf_counter()
    with tqdm(cells, unit='cell') as bar:
        for cell in bar:
            bar.set_postfix_str(cell.name)
            rest = float('inf') if minutes is None else minutes * 60 - (time.perf_counter() - start)
            if rest <= 0:
                left.append(cell)
                continue
            paper = dict(cell=cell.record(), model_flops=model_flops(cell), memory_estimated=memory(cell))
            record = run_child(cell, settings, min(timeout, rest), tool)
            if record['outcome'] == 'too slow' and rest < timeout:
                left.append(cell)
                continue
            append_line(out, json.dumps(paper | record))
            tqdm.write(f'{cell.name}: {_said(record)}')
            if record['outcome'] not in FINAL:
                left.append(cell)
    return left


def run_child(cell: Cell, settings: dict[str, Any], timeout: float, tool: Path) -> dict[str, Any]:
    """What a child process found, or how it ended."""
    given = json.dumps(dict(cell=cell.record(), settings=settings))
    with tempfile.TemporaryFile() as log:
        try:
            done = subprocess.run(
                [sys.executable, str(tool), '--child', given], stdout=subprocess.PIPE, stderr=log, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return dict(outcome='too slow', limit_seconds=timeout)
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        log.seek(0)
        said = log.read().decode(errors='replace').strip().splitlines()
    # 9: the system ended it, which it does to processes that take too much memory.
    outcome = 'out of memory' if done.returncode in (-9, 137) else 'failed'
    return dict(outcome=outcome, error=f'exit status {done.returncode}: {(said or ["nothing said"])[-1][:300]}')


def _said(record: dict[str, Any]) -> str:
    if record['outcome'] != 'measured':
        return ' '.join([record['outcome'], *([record['error']] if 'error' in record else [])])
    if 'flops_per_second' in record:
        return f'{record["flops_per_second"] / 1e12:.3g} TFLOP/s'
    return f'{record["seconds"]:.4g} s, {record["memory_peak"]:.2f} GB'
