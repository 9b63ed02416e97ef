"""docs/benchmarks/growth.md and a small plot for each curve, made of the JSON lines of `benchmark.py growth`."""

import json
import math
from pathlib import Path
from typing import Any

from mmdiff2in1.core.atomic_files import complete_lines, write_atomically

from .growth import CURVES
from .tables import markdown

Line = dict[str, Any]
INTRODUCTION = """# Growth of costs

    python tools/benchmark.py growth --dry-run     # the points
    python tools/benchmark.py growth               # measures what is not in growth/cpu.jsonl yet
    python tools/benchmark.py report               # this page

One operation at several sizes, each point in a process of its own, one thread. Stores hold records as creation writes
them for ADE20K, 855 bytes each. Models are toys of 64 × 64 pixels: what grows with what is the same at full size, how
much it costs is not (see [Benchmarks](README.md)).

- core-seconds: processor time; clock: seconds that went by. Where the second is a multiple of the first, other
  processes had the machine, and on a quiet one the clock would be near the core-seconds.
- memory: of a store, what the process took at most beside what it held before; of a training step, what the forward
  pass keeps for the backward pass, counted; of creation and epochs, what they took beside what a first one had taken.
- slope: of the logarithms of core-seconds and size, over all points: 1 is linear, 0 is constant.
"""


def write_growth(folder: Path) -> Path | None:
    """Writes growth.md beside `folder`, and the plots into it; None if nothing has been measured."""
    lines = [json.loads(line) for file in sorted(folder.glob('*.jsonl')) for line in complete_lines(file)]
    if not lines:
        return None
    parts = [INTRODUCTION]
    found = lines[-1]['environment']
    parts.append(f'{found["device"]}, torch {found["torch"]}, python {found["python"]}, {found["date"]}.\n')
    for name, curve in CURVES.items():
        points = sorted((line for line in lines if line['curve'] == name), key=lambda line: line['number'])
        if len(points) > 1:
            picture = folder / f'{name}.png'
            _plot(points, curve.of, picture)
            parts += [f'## {name}: {curve.title}\n', _table(points, curve.of)]
            parts += [f'\nslope {_slope(points):.2f}\n\n![{name}]({folder.name}/{picture.name})\n']
    page = folder.parent / 'growth.md'
    write_atomically(page, '\n'.join(parts).encode())
    return page


def _table(points: list[Line], of: str) -> str:
    more = [key for key in ('flops', 'calls', 'steps') if key in points[0]]
    rows = []
    for point in points:
        seconds, number = point['core_seconds'], point['number']
        row = [f'{number:,}', f'{seconds:.3g}', f'{point["seconds"]:.3g}', f'{seconds / points[0]["core_seconds"]:.2f}']
        row += [f'{point["bytes"] / 2**20:,.1f}', f'{point["bytes"] / number:,.0f}' if number else '–']
        rows.append(row + [f'{point[key]:,}' for key in more])
    head = [of, 'core-seconds', 'clock', 'to the first', 'MiB', 'bytes for each', *more]
    return markdown(head, rows, left=0)


def _slope(points: list[Line]) -> float:
    """By least squares; points at 0 have no logarithm."""
    pairs = [(math.log(p['number']), math.log(p['core_seconds'])) for p in points if p['number']]
    x_mean, y_mean = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return sum((x - x_mean) * (y - y_mean) for x, y in pairs) / sum((x - x_mean) ** 2 for x, _ in pairs)


def _plot(points: list[Line], of: str, file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 2.2), layout='constrained')
    FigureCanvasAgg(figure)
    numbers = [point['number'] for point in points]
    series = {'core-seconds': [p['core_seconds'] for p in points], 'MiB': [p['bytes'] / 2**20 for p in points]}
    for axes, (name, values) in zip(figure.subplots(1, 2), series.items(), strict=True):
        axes.plot(numbers, values, '.-')
        if numbers[-1] >= 100 * max(numbers[0], 1):
            axes.set_xscale('log')
            axes.set_yscale('log')
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(of, fontsize='small')
        axes.set_title(name, loc='left', fontsize='small')
        axes.tick_params(labelsize='small')
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=80)
