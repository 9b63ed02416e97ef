"""docs/benchmarks/peers.md, made of the JSON lines of `benchmark.py peers`."""

import json
from pathlib import Path
from typing import Any

from mmdiff2in1.core.atomic_files import complete_lines, write_atomically

from ..tables import markdown
from .command import circumstances
from .rows import ROWS, setup_of

Line = dict[str, Any]
INTRODUCTION = Path(__file__).with_name('page.md')


def write_peers(file: Path) -> Path | None:
    """Writes the page beside `file`, the JSON lines; None if nothing has been measured."""
    lines = [json.loads(line) for line in complete_lines(file)] if file.is_file() else []
    if not lines:
        return None
    parts = [INTRODUCTION.read_text()]
    for device in dict.fromkeys(line['environment']['device'] for line in lines):
        here = [line for line in lines if line['environment']['device'] == device]
        parts += [f'## {device}\n', _circumstances(here), _table(here)]
    parts += ['\n## The rows\n', *_rows(lines)]
    page = file.with_suffix('.md')
    write_atomically(page, '\n'.join(parts).encode())
    return page


def _circumstances(lines: list[Line]) -> str:
    first, loads = lines[0]['environment'], [line['load'] for line in lines]
    dates = sorted({line['environment']['date'] for line in lines})
    threads = f'{first["threads"]} thread{"s" if first["threads"] > 1 else ""}'
    return (
        f'torch {first["torch"]}, diffusers {first["diffusers"]}, python {first["python"]}, {threads}, '
        f'{" – ".join(dict.fromkeys((dates[0], dates[-1])))}; load of the machine {min(loads):g} to {max(loads):g}.\n'
    )


def _table(lines: list[Line]) -> str:
    head = ['row', '', 'pairs', 'theirs, s', 'ours, s', 'theirs / ours', 'core-seconds', 'theirs, MiB', 'ours, MiB',
            'theirs / ours', 'outputs differ by']  # fmt: skip
    return markdown(head, [_cells(line) for line in lines], left=1)


def _cells(line: Line) -> list[str]:
    clock, cores = (line[name]['compared'] for name in ('seconds', 'core_seconds'))
    size = {side: line['bytes'][side] / 2**20 for side in ('theirs', 'ours')}
    return [
        line['row'] + (' *' if line['differs'] else ''),
        ', '.join(circumstances(setup_of(line))),
        str(line['pairs']),
        f'{clock["theirs"]:.3g}',
        f'{clock["ours"]:.3g}',
        f'{_ratio(clock["ratio"])} ({_ratio(clock["ratio_min"])} – {_ratio(clock["ratio_max"])})',
        _ratio(cores['ratio']),
        f'{size["theirs"]:,.0f}',
        f'{size["ours"]:,.0f}',
        _ratio(size['theirs'] / size['ours']),
        f'{max(line["difference"].values()):.0e}',
    ]


def _ratio(value: float) -> str:
    return f'{value:.2f}' if value < 10 else f'{value:.0f}'


def _rows(lines: list[Line]) -> list[str]:
    parts = []
    for name in dict.fromkeys(line['row'] for line in lines):
        row = ROWS[name]
        found = [line['difference'] for line in lines if line['row'] == name]
        told = ', '.join(f'{key} {max(each[key] for each in found):.1e}' for key in found[0])
        differs = f' * The sides differ: {row.differs}.' if row.differs else ''
        parts.append(f'- `{name}`: {row.what}.{differs} Outputs apart by: {told}.')
    return [*parts, '']
