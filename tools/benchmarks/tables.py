"""Markdown tables of the measured cells."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from .cells import COMPILED, Cell, cell_of

EXTRAPOLATED = (20, 50)
"""U-Net calls per image that a creation with fewer calls is extrapolated to."""
GOALS = {'create': 0.45, 'finetune': 0.35}
"""Share of the measured bfloat16 matmul peak that is wanted on a GPU."""
EMA_GOAL = 0.01
"""Share of a training step that the moving average may take."""
SAMPLES_PER_UPDATE = 40
NONE = '–'

Record = dict[str, Any]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns hold words."""
    lines = [head, [':--'] * left + ['--:'] * (len(head) - left), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def peaks(records: Iterable[Record]) -> dict[str, float]:
    """Precision → measured matmul peak in FLOP/s; on a CPU in FLOP/s for each core that was at work."""
    return {
        record['cell']['precision']: record['flops_per_second'] / record.get('cores', 1)
        for record in records
        if record['cell']['case'] == 'matmul' and record['outcome'] == 'measured'
    }


def share(record: Record, peak: dict[str, float]) -> float | None:
    """Model FLOP/s of a cell over the peak of its precision; None where one of both is not known."""
    limit = peak.get(record['cell']['precision'].removesuffix('-weights'))
    if limit is None or not record['model_flops'] or record['outcome'] != 'measured':
        return None
    return record['model_flops'] / record['seconds'] / record.get('cores', 1) / limit


def peak_table(records: list[Record]) -> str:
    """The rates of square matrix products."""
    rows = []
    for record in records:
        if record['cell']['case'] == 'matmul' and record['outcome'] == 'measured':
            best = max(record['rates'], key=record['rates'].get)
            cores = [f'{record["cores"]:.2f}'] if 'cores' in record else []
            rows.append([record['cell']['precision'], f'{record["flops_per_second"] / 1e12:.3g}', best, *cores])
    head = ['precision', 'TFLOP/s', 'n × n']
    return markdown(head + ['cores at work'] * any(len(row) > len(head) for row in rows), rows)


def cell_table(records: list[Record]) -> str:
    """One row per cell."""
    peak, plain = peaks(records), {}
    on_cpu = any('cores' in record for record in records)
    for record in records:
        cell = cell_of(record['cell'])
        if not cell.options and not cell.memory and record['outcome'] == 'measured' and cell.case != 'matmul':
            plain[_kind(cell)] = _work(record)
    rows = []
    for record in records:
        cell = cell_of(record['cell'])
        if cell.case == 'matmul' or cell.paired:
            continue
        name = f'{cell.case}, {cell.calls} calls' if cell.calls else cell.case
        row = [name, cell.precision, ' + '.join(cell.options) or NONE, str(cell.batch)]
        row.append(f'{cell.memory:g} GB' if cell.memory else NONE)
        rows.append(row + _numbers(record, cell, peak, plain) + ([_core_seconds(record)] if on_cpu else []))
        for calls, seconds in extrapolated(record):
            times = [_time(seconds), _time(seconds / cell.batch), *[NONE] * 5]
            cores = [_core_seconds(record | dict(seconds=seconds))] if on_cpu else []
            rows.append([f'{cell.case}, {calls} calls, extrapolated', *row[1:], *times, *cores])
    head = ['case', 'precision', 'options', 'batch', 'limit', 'time (min – max)', 'per image']
    head += ['TFLOP/s', 'of peak', 'memory, GB', 'on paper', 'speed-up'] + ['core-seconds'] * on_cpu
    return markdown(head, rows, left=3)


def views_table(records: list[Record]) -> str | None:
    """Images per second without and with cached views, and the ratio within each pair; None without such a cell."""
    rows = []
    for record in records:
        cell = cell_of(record['cell'])
        if cell.warmup is None or record['outcome'] != 'measured':
            continue
        options = ' + '.join(cell.options) or NONE
        rows.append([cell.warmup, cell.precision, options, *_pairs(record)])
    head = ['warm-up', 'precision', 'options', 'threads', 'pairs', 'images/s without', 'with', 'ratio (min – max)']
    return markdown(head, rows, left=3) if rows else None


def compiled_table(records: list[Record]) -> str | None:
    """Images per processor second plain and compiled, and the ratio in each pair; None without such a cell."""
    rows = []
    for record in records:
        cell = cell_of(record['cell'])
        if not cell.case.startswith(COMPILED) or record['outcome'] != 'measured':
            continue
        name = cell.case.removeprefix(COMPILED) + (f', {cell.calls} calls' if cell.calls else '')
        processor = record['environment']['device']
        rows.append([name, processor, str(cell.batch), *_pairs(record)])
    head = ['case', 'processor', 'batch', 'threads', 'pairs', 'images/s plain', 'compiled', 'ratio (min – max)']
    return markdown(head, rows, left=2) if rows else None


def _pairs(record: Record) -> list[str]:
    """Threads, number of pairs, median speeds of both ways, their ratio."""
    pairs = record['images_per_second']
    ratios = [second / first for first, second in pairs]
    speeds = [f'{speed:.2g}' if speed < 1 else f'{speed:.1f}' for speed in map(median, zip(*pairs, strict=True))]
    ratio = f'{median(ratios):.2f} ({min(ratios):.2f} – {max(ratios):.2f})'
    return [str(record['environment']['threads']), str(len(pairs)), *speeds, ratio]


def extrapolated(record: Record) -> list[tuple[int, float]]:
    """(U-Net calls, seconds) of creations that were not run: a missing call costs the median of those made."""
    calls, seconds = record['cell']['calls'], record.get('seconds_of_calls')
    if not seconds or record['outcome'] != 'measured':
        return []
    return [(more, record['seconds'] + (more - calls) * median(seconds)) for more in EXTRAPOLATED if more > calls]


def goal_table(records: list[Record]) -> str | None:
    """What was hoped for and what was reached at best; None without a cell that could reach it."""
    peak, rows = peaks(records), []
    for case, goal in GOALS.items():
        found = [
            (reached, cell_of(record['cell']).name)
            for record in records
            if record['cell']['case'] == case and record['cell']['precision'].startswith('bf16')
            if (reached := share(record, peak)) is not None
        ]
        if found:
            reached, name = max(found)
            rows.append([f'{case}: share of the bf16 peak', f'≥ {goal:.0%}', f'{reached:.1%}', name])
    ema = ema_share(records)
    if ema is not None:
        rows.append(['EMA: share of a training step', f'< {EMA_GOAL:.0%}', f'{ema[0]:.2%}', ema[1]])
    return markdown(['goal', 'wanted', 'reached', 'by'], rows) if rows else None


def ema_share(records: list[Record]) -> tuple[float, str] | None:
    """(share of the fastest training of θ_E that updates of θ_C take, its cell), at one update per 40 images."""
    measured = [record for record in records if record['outcome'] == 'measured' and record['cell']['case'] != 'matmul']
    update = [record['seconds'] for record in measured if record['cell']['case'] == 'ema']
    steps = [
        (record['seconds'] / record['cell']['batch'], cell_of(record['cell']).name)
        for record in measured
        if record['cell']['case'] == 'finetune'
    ]
    if not update or not steps:
        return None
    per_image, name = min(steps)
    return update[0] / SAMPLES_PER_UPDATE / per_image, name


def _kind(cell: Cell) -> tuple:
    return cell.case, cell.precision, cell.batch, cell.calls


def _numbers(record: Record, cell: Cell, peak: dict[str, float], plain: dict) -> list[str]:
    paper = record.get('memory_estimated')
    paper = NONE if paper is None else f'{paper:.1f}'
    if record['outcome'] != 'measured':
        return [record['outcome'], NONE, NONE, NONE, NONE, paper, NONE]
    seconds, rate = record['seconds'], record['model_flops'] / record['seconds'] / 1e12
    reached = share(record, peak)
    spread = '' if record['repeats'] == 1 else f' ({_time(record["seconds_min"])} – {_time(record["seconds_max"])})'
    compared = plain.get(_kind(cell)) if cell.options else None
    return [
        _time(seconds) + spread,
        NONE if cell.case == 'ema' else _time(seconds / cell.batch),
        f'{rate:.3g}' if rate else f'{record["bytes_moved"] / seconds / 1e9:.3g} GB/s',
        NONE if reached is None else f'{reached:.1%}',
        f'{record["memory_peak"]:.1f}',
        paper,
        NONE if compared is None else f'{compared / _work(record):.2f}×',
    ]


def _work(record: Record) -> float:
    """Seconds; on a CPU, which others may be using, core-seconds."""
    return record['seconds'] * record.get('cores', 1)


def _core_seconds(record: Record) -> str:
    return f'{_work(record):.3g}' if 'cores' in record else NONE


def _time(seconds: float) -> str:
    if seconds >= 100:
        return f'{seconds:.0f} s'
    return f'{seconds:.3g} s' if seconds >= 1 else f'{seconds * 1000:.3g} ms'
