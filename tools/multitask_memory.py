"""What a training step of InvPT and TaskPrompter needs beside its weights, ours and the formulas written plainly.

    python tools/multitask_memory.py                             # counted: no weights, no data, no memory; minutes
    python tools/multitask_memory.py --measure                   # and the steps themselves, done on the GPU or CPU
    python tools/multitask_memory.py --models "InvPT, ViT-L, NYUD-MT"

One image at full size, all published tasks with edges, single precision, losses included. "plain" holds what stands in
the formulas, as the published code does: raw scores and shares of attention of every block, maps at 1/4. kept: for the
backward pass, when the forward pass has ended. peak: at any time, gradients of the weights included, the moments of
Adam not. The table is that of docs/benchmarks/multitask.md.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # behind what is installed, if anything is
from mmdiff2in1.commands.errors import told
from mmdiff2in1.core.arguments import Arguments

with told('tools/multitask_memory.py'):
    from benchmarks import multitask
    from benchmarks.multitask import PLAIN, Needed

HEADER = (
    '| MiB | ViT kept | decoder kept | kept | of plain | peak | of plain | peak measured |\n'
    '| :-- | --: | --: | --: | --: | --: | --: | --: |'
)


def row(name: str, way: str, found: Needed, plain: Needed, measured: float | None = None) -> str:
    """A line of the table."""
    shares = ['–', '–'] if way == PLAIN else [f'{found.kept / plain.kept:.2f}', f'{found.peak / plain.peak:.2f}']
    numbers = [f'{each:,.0f}' for each in (found.backbone, found.kept - found.backbone, found.kept, found.peak)]
    last = '–' if measured is None else f'{measured:,.0f}'
    return f'| {name}: {way} | ' + ' | '.join([*numbers[:3], shares[0], numbers[3], shares[1], last]) + ' |'


def main() -> None:
    """Prints the table, line by line."""
    parser = Arguments(description=__doc__)
    known = list(multitask.MODELS_AT_FULL_SIZE)
    parser.add_argument('--models', nargs='+', choices=known, default=known, metavar='MODEL', help=', '.join(known))
    parser.add_argument('--measure', action='store_true', help='do the steps, too; of 12 GiB or more on a CPU')
    args = parser.parse_args()
    print(HEADER, flush=True)
    for name in args.models:
        plain = multitask.counted(name, PLAIN)
        for way in multitask.ways(name):
            found = plain if way == PLAIN else multitask.counted(name, way)
            measured = multitask.measured(name, way) if args.measure else None
            print(row(name, way, found, plain, measured), flush=True)


if __name__ == '__main__':
    main()
