"""Curves of cost: one operation at several sizes, each point in a process of its own, one JSON line for each.

    python tools/benchmark.py growth --dry-run                  the curves and their points
    python tools/benchmark.py growth                            all that is not in --out yet: half an hour, 4 GB
    python tools/benchmark.py growth --curves opening merging   some of them
    python tools/benchmark.py report                            the page and its plots: docs/benchmarks/growth.md

Processor seconds stand beside those of the clock: other work on the machine makes the latter grow, the former less.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmdiff2in1.core.atomic_files import append_line, complete_lines

OUT = Path('docs/benchmarks/growth/cpu.jsonl')
TOOL = Path(__file__).parents[1] / 'benchmark.py'


@dataclass(frozen=True)
class Curve:
    """Attributes: `of`: what is counted on the x axis; `points`: how many; `where`: the module that measures."""

    of: str
    points: tuple[int, ...]
    where: str
    title: str


CURVES = {
    'opening': Curve('records', (10_000, 100_000, 1_000_000), 'store', 'a store is opened: every line checked'),
    'listing': Curve('records', (10_000, 100_000, 1_000_000), 'store', 'every record of a store is parsed once'),
    'merging': Curve('records', (10_000, 100_000, 1_000_000), 'store', 'two manifests are merged'),
    'checking': Curve('records', (1_000, 3_000, 10_000), 'store', '--verify: the hash of every image, 12 kB each'),
    'images': Curve('images', (16, 32, 64, 128), 'model', 'an epoch of a frozen backbone, batches of 2'),
    'pixels': Curve('pixels of a side', (64, 96, 128, 192), 'model', 'a training step, U-Net fine-tuned'),
    'classes': Curve('classes', (2, 5, 20, 60, 150), 'model', 'a training step: tokens, attention maps, outputs'),
    'tasks': Curve('tasks', (1, 2, 3, 4, 5), 'model', 'a training step, a head for each task'),
    'synthetic': Curve('created images in a batch', (0, 2, 4, 8), 'model', 'a second-stage step with 2 real images'),
    'samples': Curve('created images', (4, 8, 16, 32), 'model', 'creation, 4 U-Net calls each, files included'),
    'ranks': Curve('processes', (1, 2, 4, 8), 'model', 'creation of 48 images: the slowest process'),
}


def main(arguments: Sequence[str]) -> None:
    """Measures what is not in --out yet."""
    parser = argparse.ArgumentParser(
        'benchmark.py growth', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--curves', nargs='+', choices=CURVES, default=list(CURVES), metavar='NAME', help='(all)')
    parser.add_argument('--most', type=int, default=10**9, help='leave out points above that')
    parser.add_argument('--out', type=Path, default=OUT, help='JSON lines (%(default)s)')
    parser.add_argument('--dry-run', action='store_true', help='list the points; nothing is measured')
    parser.add_argument('--child', nargs=2, metavar=('NAME', 'N'), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        print(json.dumps(point(args.child[0], int(args.child[1]))), flush=True)
        return
    wanted = [(name, number) for name in args.curves for number in CURVES[name].points if number <= args.most]
    done = {(line['curve'], line['number']) for line in map(json.loads, complete_lines(args.out))}
    if args.dry_run:
        for name, number in wanted:
            curve = CURVES[name]
            print(f'{"done" if (name, number) in done else "to do":5}  {name:9} {number:>9,} {curve.of}: {curve.title}')
        return
    for name, number in tqdm([each for each in wanted if each not in done], unit='point'):
        append_line(args.out, json.dumps(_child(name, number)))
    print(f'written: {args.out}')


def point(name: str, number: int) -> dict[str, Any]:
    """One measurement, in this process."""
    from . import growth_model, growth_store
    from .environment import environment

    module = growth_store if CURVES[name].where == 'store' else growth_model
    measure: Callable[[int, Path], dict[str, Any]] = getattr(module, name)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(number, Path(folder) / 'work')
    return dict(curve=name, number=number) | found | dict(environment=environment('cpu'))


def _child(name: str, number: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(TOOL), 'growth', '--child', name, str(number)], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f'{name} at {number}: exit status {done.returncode}, see above; call again to go on there')
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line
