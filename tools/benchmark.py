"""Measure time, memory and use of the device at the size of Stable Diffusion 1.5, 512 × 512 pixels, random weights.

    python tools/benchmark.py --preset cpu --dry-run                               the cells, their cost on paper
    python tools/benchmark.py --preset cpu --out docs/benchmarks/cpu.jsonl         some ten minutes, 17 GB
    python tools/benchmark.py --preset gpu --out docs/benchmarks/h200.jsonl        call it until nothing is left
    python tools/benchmark.py --case finetune --precision bf16 --batch 1 2 4 --device cuda --memory 24 \\
        --options none checkpointing checkpointing+fused-adamw --out mine.jsonl    a matrix of your own
    python tools/benchmark.py --preset views --out docs/benchmarks/cpu.jsonl       warm-ups, cached views or none
    python tools/benchmark.py --preset compiled --out docs/benchmarks/cpu.jsonl    torch.compile or none
    python tools/benchmark.py estimate                                             memory by batch size, on paper
    python tools/benchmark.py growth                                               cost against sizes (--help)
    python tools/benchmark.py peers --vpd PATH --released PATH                     others' code and ours (--help)
    python tools/benchmark.py report                                               tables of docs/benchmarks/*.jsonl

Nothing is needed but this repository: no weights, no data. A cell is a case (what is done), a precision, a batch size,
options and a limit on memory. Every cell runs in a process of its own; one that runs out of memory or time is a result,
too. Each result is a line in --out, and a cell whose line is there is skipped: a killed call goes on where it stopped.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # behind what is installed, if anything is
from benchmarks.cells import CASES, MODELS, OPTIONS, PRECISIONS, Cell, product_of
from benchmarks.presets import PRESETS

from mmdiff2in1.commands.errors import told
from mmdiff2in1.core.arguments import Arguments

# Warm-ups, repeats at most, and the seconds that these should take.
SETTINGS = dict(
    cpu=dict(warm_ups=0, repeats=3, budget=60.0),  # a step takes so long that the first one may count
    gpu=dict(warm_ups=3, repeats=20, budget=6.0),
    tiny=dict(warm_ups=1, repeats=3, budget=2.0),
    views=dict(warm_ups=1, repeats=6, budget=120.0),
    compiled=dict(warm_ups=1, repeats=8, budget=240.0),
)
MINUTES = dict(cpu=None, gpu=9.0, tiny=None, views=None, compiled=None)
COMMANDS = ('run', 'estimate', 'report')
FOLDER = Path('docs/benchmarks')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Arguments(
        description=__doc__,
        epilog='\n\n'.join(
            f'{title}:\n' + '\n'.join(f'  {name:15s} {text}' for name, text in table.items())
            for title, table in (('cases', CASES), ('precisions', PRECISIONS), ('options', OPTIONS))
        ),
    )
    add = parser.add_argument
    add(
        'command',
        nargs='?',
        default='run',
        choices=COMMANDS,
        help='measure (default), estimate memory, or write the page',
    )
    add('--preset', choices=tuple(PRESETS), help='a list of cells; without it --case')
    add('--cells', nargs='+', metavar='REGEX', help='of these only those whose name matches one of the expressions')
    add('--case', nargs='+', choices=tuple(CASES), help='what is done; the cells are all combinations with the next')
    add('--precision', nargs='+', choices=tuple(PRECISIONS), default=['fp32'], help='(%(default)s)')
    add('--batch', nargs='+', type=int, default=[1], help='images (%(default)s)')
    add('--calls', nargs='+', type=int, default=[20], help='U-Net calls per created image (%(default)s)')
    add('--options', nargs='+', default=['none'], help='each a set, joined by +: none compile compile+channels_last')
    add('--memory', nargs='+', type=memory_size, default=[0.0], metavar='GB', help='limits, as 16 or 16GB; 0: none')
    add('--size', type=int, default=512, help='side of the images (%(default)s)')
    add('--model', choices=MODELS, default=MODELS[0], help='(%(default)s)')
    add('--device', choices=('cpu', 'cuda'), help='(that of the preset; else cpu)')
    add('--out', type=Path, help='JSON lines; docs/benchmarks/cpu.jsonl or gpu.jsonl, for the preset tiny none')
    add('--repeats', type=int, help='of a step, at most (by preset: cpu 3, gpu 20)')
    add('--budget', type=float, help='seconds that the repeats of a cell may take (cpu 60, gpu 6)')
    add('--timeout', type=float, default=900.0, help='seconds after which a cell is given up (%(default)g)')
    add('--minutes', type=float, help='stop after so many minutes (gpu: 9); what is left is for the next call')
    add('--dry-run', action='store_true', help='list the cells with FLOPs and estimated memory; nothing is measured')
    add('--folder', type=Path, default=FOLDER, help='of estimate and report (%(default)s)')
    add('--child', help=argparse.SUPPRESS)  # a process of its own: JSON of a cell
    args = parser.parse_args(arguments)
    if args.command == 'run' and not args.child and (args.preset is None) == (args.case is None):
        parser.error('say what to measure: --preset cpu, gpu or tiny, or --case with the flags below it')
    args.options = [option_set(text, parser) for text in args.options]
    if min([*args.batch, *args.calls]) < 1 or args.size % 64:
        parser.error(f'--batch {args.batch} --calls {args.calls} --size {args.size}: 1 or more; a multiple of 64')
    return args


def memory_size(text: str) -> float:
    """'16', '16GB' → 16.0."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*(?:gi?b)?', text.lower())
    if match is None:
        raise argparse.ArgumentTypeError(f'{text!r}: expected gigabytes, for example 16 or 16GB')
    return float(match[1])


def option_set(text: str, parser: argparse.ArgumentParser) -> tuple[str, ...]:
    """'none' → (), 'compile+channels_last' → both."""
    names = () if text == 'none' else tuple(text.split('+'))
    unknown = [name for name in names if name not in OPTIONS]
    if unknown:
        parser.error(f'--options {text}: unknown {", ".join(unknown)}; known: none, {", ".join(OPTIONS)}')
    return names


def chosen(args: argparse.Namespace) -> list[Cell]:
    """The cells that the command line means.

    Raises SystemExit if there are none.
    """
    if args.preset:
        common = dict(model=args.model, size=args.size) | ({'device': args.device} if args.device else {})
        cells = PRESETS[args.preset](**common)
    else:
        common = dict(model=args.model, size=args.size, device=args.device or 'cpu')
        cells = product_of(args.case, args.precision, args.batch, args.calls, args.options, args.memory, **common)
    if args.cells:
        known = cells
        cells = [cell for cell in cells if any(re.search(pattern, cell.name) for pattern in args.cells)]
        if not cells:
            raise SystemExit(
                f'--cells {" ".join(args.cells)}: no such cell; known:\n' + '\n'.join(c.name for c in known)
            )
    if not cells:
        raise SystemExit('no cell is left: these options do not apply to these cases and this device, see --help')
    return cells


def main(arguments: list[str] | None = None) -> None:
    """Lists, measures, reports."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ['growth']:
        from benchmarks.growth import main as growth

        growth(arguments[1:])
        return
    if arguments[:1] == ['peers']:
        from benchmarks.peers.command import main as peers

        peers(arguments[1:])
        return
    args = parse_args(arguments)
    if args.child:
        from benchmarks.worker import main as child

        child(args.child)
    elif args.command == 'report':
        from benchmarks.growth_page import write_growth
        from benchmarks.page import PEERS, write_page
        from benchmarks.peers.page import write_peers

        print(f'written: {write_page(args.folder)}')
        print(f'written: {write_growth(args.folder / "growth") or "nothing of growth: measure first"}')
        print(f'written: {write_peers(args.folder / PEERS) or "nothing of peers: measure first"}')
    elif args.command == 'estimate':
        from benchmarks.page import BATCHES, ESTIMATES
        from benchmarks.plan import write_estimates

        write_estimates(args.folder / ESTIMATES, BATCHES, args.size, args.model)
        print(f'written: {args.folder / ESTIMATES}')
    else:
        run(args)


def run(args: argparse.Namespace) -> None:
    """Measures what is not in --out yet."""
    cells = chosen(args)
    kind = args.preset or ('gpu' if cells[0].device == 'cuda' else 'cpu')
    out = args.out or (None if kind == 'tiny' else FOLDER / f'{kind}.jsonl')
    if out is None and not args.dry_run:
        raise SystemExit('--preset tiny needs --out FILE: its numbers say nothing and belong in no report')
    _check_device(cells[0].device, args.dry_run)
    from benchmarks.plan import listing
    from benchmarks.queue import finished, run_cells

    done = finished(out) if out else set()
    left = [cell for cell in cells if cell not in done]
    if args.dry_run:
        print(listing(cells, done))
        return
    print(f'{len(cells)} cells, {len(cells) - len(left)} of them in {out} already')
    given = dict(repeats=args.repeats, budget=args.budget)
    settings = SETTINGS[kind] | {name: value for name, value in given.items() if value is not None}
    minutes = MINUTES[kind] if args.minutes is None else args.minutes
    unfinished = run_cells(left, out, settings, args.timeout, minutes, Path(__file__))
    print(f'written: {out}')
    if unfinished:
        names = '\n'.join(f'  {cell.name}' for cell in unfinished)
        raise SystemExit(f'{len(unfinished)} cells are left; the same command goes on with them:\n{names}')


def _check_device(device: str, dry_run: bool) -> None:
    import torch

    if device == 'cuda' and not dry_run and not torch.cuda.is_available():
        raise SystemExit('no GPU was found (torch.cuda.is_available() is False); add --device cpu, or --dry-run')


if __name__ == '__main__':
    with told('tools/benchmark.py'):
        main()
