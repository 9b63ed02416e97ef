"""The same work by others' code and by ours, in turns: theirs, ours, theirs, ours, …

    python tools/benchmark.py peers --dry-run                                       the rows
    python tools/benchmark.py peers --released ~/diff-2-in-1 --vpd ~/VPD            all of them, at a tenth of the width
    python tools/benchmark.py peers --released ~/diff-2-in-1 --vpd ~/VPD --device cuda --dtype fp32 bf16 --batch 4
    python tools/benchmark.py peers --vpd ~/VPD --rows vpd-features --size 256 --pairs 9
    python tools/benchmark.py report                                                the page, docs/benchmarks/peers.md

Nothing of theirs is part of this repository: name your own clones, of wl-zhao/VPD with its submodule and of
zsh2000/diff-2-in-1. Their code needs einops. A row whose peer is not named is left out. Both sides get the same random
weights and the same images; before anything is timed it is told how far their outputs are apart, and a row whose sides
disagree is not timed. Each row has a process of its own; each result is a line in --out, and what is there is skipped.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmdiff2in1.core.arguments import Arguments
from mmdiff2in1.core.atomic_files import append_line, complete_lines

from .clones import PEERS, Clone
from .rows import ROWS, Setup, settled, setup_of

OUT = Path('docs/benchmarks/peers.jsonl')
TOOL = Path(__file__).parents[2] / 'benchmark.py'
DTYPES = ('fp32', 'tf32', 'bf16')


def main(arguments: Sequence[str]) -> None:
    """Measures what is not in --out yet."""
    parser = Arguments('benchmark.py peers', description=__doc__)
    add = parser.add_argument
    for name, peer in PEERS.items():
        add(f'--{name}', type=Path, metavar='PATH', help=f'your clone of {peer.whose}')
    add('--rows', nargs='+', choices=ROWS, default=list(ROWS), metavar='ROW', help='(all, see --dry-run)')
    add('--device', choices=('cpu', 'cuda'), default='cpu', help='(%(default)s)')
    add('--width', choices=('small', 'full'), help='full is that of Stable Diffusion 1.5 (cuda: full, cpu: small)')
    add('--size', type=int, default=512, help='side of the images, where theirs takes more than one (%(default)s)')
    add('--dtype', nargs='+', choices=DTYPES, default=['fp32'], help='bf16: autocast (%(default)s)')
    add('--batch', nargs='+', type=int, default=[2], help='images; for creation always 1, as theirs (%(default)s)')
    add('--calls', type=int, default=50, help='U-Net calls of an image in theirs (%(default)s)')
    add('--pairs', type=int, default=5, help='steps of each side, at least 5 (%(default)s)')
    add('--out', type=Path, default=OUT, help='JSON lines (%(default)s)')
    add('--dry-run', action='store_true', help='list the rows; nothing is measured')
    add('--child', help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        child(Setup(**json.loads(args.child)), args)
        return
    if args.pairs < 5:
        parser.error(f'--pairs {args.pairs}: at least 5 are needed for a median that says something')
    if args.size % 64 or min(args.batch) < 2 or args.calls < 1 or 600 % args.calls:
        parser.error(
            f'--size {args.size} --batch {" ".join(map(str, args.batch))} --calls {args.calls}: expected a multiple of '
            '64, 2 or more (half of a second-stage batch is created), and a divisor of 600, of which theirs makes '
            'exactly so many calls'
        )
    wanted = setups(args)
    done = [setup_of(json.loads(line)) for line in complete_lines(args.out)]
    if args.dry_run:
        print(listing(wanted, done))
        return
    clones = {name: Clone(name, getattr(args, name)) for name in PEERS if getattr(args, name)}
    if not clones:
        parser.error('name a clone: ' + ' or '.join(f'--{name} PATH' for name in PEERS) + '; --dry-run lists the rows')
    _check(args)
    left = [setup for setup in wanted if ROWS[setup.row].peer in clones and setup not in done]
    failed = []
    for setup in tqdm(left, unit='row', disable=None):
        line = _measured_apart(setup, args)
        if line is None:
            failed.append(setup.row)
        else:
            append_line(args.out, json.dumps(line))
    print(f'written: {args.out}')
    if failed:
        raise SystemExit(f'without a result, see above: {", ".join(failed)}')


def setups(args: Any) -> list[Setup]:
    """The rows that the command line means, each once."""
    width = args.width or ('full' if args.device == 'cuda' else 'small')
    found = [
        settled(Setup(row, args.device, width, args.size, dtype, batch, args.calls))
        for row in args.rows
        for dtype in args.dtype
        for batch in args.batch
    ]
    return list(dict.fromkeys(found))


def listing(wanted: Iterable[Setup], done: Sequence[Setup]) -> str:
    """A line for each row: whether it is done, its circumstances, what is timed and in what the sides differ."""
    lines = []
    for setup in wanted:
        row = ROWS[setup.row]
        differs = f' – {row.differs}' if row.differs else ''
        where = ' '.join(circumstances(setup))
        lines.append(f'{"done" if setup in done else "to do":5}  {setup.row:28} {where:32} {row.what}{differs}')
    return '\n'.join(lines)


def circumstances(setup: Setup) -> list[str]:
    """Width, dtype and, where they matter, size, batch and calls."""
    return [
        setup.width,
        setup.dtype,
        *([f'{setup.size} px'] if setup.size else []),
        *([f'b{setup.batch}'] if setup.batch else []),
        *([f'{setup.calls} calls'] if setup.calls else []),
    ]


def child(setup: Setup, args: Any) -> None:
    """Measures a row in this process and prints its line, see :func:`.measuring.measured`."""
    from .measuring import measured

    clone = Clone(ROWS[setup.row].peer, getattr(args, ROWS[setup.row].peer))
    rows = import_module(f'.{clone.name}', __package__).rows
    try:
        with clone.importable():
            line = measured(setup, rows(setup, clone), args.pairs)
    except RuntimeError as error:  # memory, or what theirs cannot do, bfloat16 under recomputation say
        reason = str(error).strip().splitlines()[0]
        raise SystemExit(f'{setup.row} ({", ".join(circumstances(setup))}): {reason}') from error
    print(json.dumps(line), flush=True)


def _measured_apart(setup: Setup, args: Any) -> dict[str, Any] | None:
    """In a process of its own; None if that failed, which it has said."""
    name = ROWS[setup.row].peer
    flags = [f'--{name}', str(getattr(args, name)), '--pairs', str(args.pairs)]
    command = [sys.executable, str(TOOL), 'peers', '--child', json.dumps(setup.record()), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return None
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def _check(args: Any) -> None:
    import torch

    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('no GPU was found (torch.cuda.is_available() is False); add --device cpu, or --dry-run')
