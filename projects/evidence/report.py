"""Make every table and plot of docs/evidence/loop.md from the runs of the experiments.

    python projects/evidence/report.py docs/evidence/runs.jsonl                     page and plots
    python projects/evidence/report.py docs/evidence/runs.jsonl --print scenes-normal-60    one table, nothing written

The page is written by hand, but for what stands between these two lines, which is replaced:

    <!-- table: NAME -->
    <!-- end -->

NAME is SET-TASK-LABELS (the arms at one number of labels), SET-TASK-range (over the numbers of labels) or
SET-TASK-BLOCK-LABELS with BLOCK knobs, ready or finetune (settings, on the val part). Runs are paired by seed. The
plots are SET-TASK-LABELS.png, SET-TASK-range.png and SET-TASK-curves.png. The same runs give the same files: a second
call changes nothing.
"""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from evidence.plots import draw_all
from evidence.runs import read_runs
from evidence.tables import tables

START, END = '<!-- table: NAME -->', '<!-- end -->'
MARKER = re.compile(r'<!--\s*(?:table:\s*(?P<name>.*?)|(?P<end>end))\s*-->')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', type=Path, help='JSON lines, one run each, as projects/evidence/scenes.py writes them')
    parser.add_argument(
        '--page', type=Path, default=Path('docs/evidence/loop.md'), help='filled in place (docs/evidence/loop.md)'
    )
    parser.add_argument(
        '--figures', type=Path, default=Path('docs/evidence'), help='folder of the plots (docs/evidence)'
    )
    parser.add_argument('--print', metavar='NAME', dest='name', help='print this table; nothing is written')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Prints one table, or fills the page and draws the plots."""
    args = parse_args(arguments)
    try:
        runs = read_runs(args.runs)
        known = tables(runs)
        if args.name is not None:
            print(find(known, args.name)())
            return
        page = args.page.read_text(encoding='utf-8')
        filled = fill(page, known, str(args.page))
    except (ValueError, OSError) as error:
        raise SystemExit(f'error: {error}') from None
    if filled != page:
        args.page.write_text(filled, encoding='utf-8')
    files = draw_all(runs, args.figures)
    print(f'{len(runs)} runs; {"written" if filled != page else "unchanged"}: {args.page}')
    for file in files:
        print(f'drawn: {file}')
    absent = [name for name in known if name not in {match['name'] for match in MARKER.finditer(page)}]
    if absent:
        print(f'tables that {args.page} does not show: {", ".join(absent)}')


def find(known: Mapping[str, Callable[[], str]], name: str) -> Callable[[], str]:
    """The maker of a table. Raises ValueError that lists the known ones."""
    if name not in known:
        raise ValueError(f'no table {name!r}; these runs give {", ".join(known)}')
    return known[name]


def fill(page: str, known: Mapping[str, Callable[[], str]], where: str = 'page') -> str:
    """The page with every table put between its markers.

    Raises ValueError, with the line, for an unknown name or a marker without its partner, and if there is none.
    """
    filled, done, opened = [], 0, None
    for match in MARKER.finditer(page):
        line = f'{where}:{page.count(chr(10), 0, match.start()) + 1}'
        if (opened is None) == (match['name'] is None):
            wanted = START if opened is None else f'{END} of {opened!r}'
            raise ValueError(f'{line}: found {match[0]}, expected {wanted} first')
        if match['end']:
            opened, done = None, match.start()
            continue
        opened = match['name']
        try:
            filled += [page[done : match.end()], f'\n\n{find(known, opened)()}\n\n']
        except ValueError as error:
            raise ValueError(f'{line}: {error}') from None
    if opened is not None:
        raise ValueError(f'{where}: no {END} after the marker of table {opened!r}')
    if not filled:
        raise ValueError(f'{where}: no marker; write {START} and {END} on lines of their own where a table belongs')
    return ''.join(filled) + page[done:]


if __name__ == '__main__':
    main()
