"""Takes configs that mmseg ships through the whole way of this package, at a tiny size on a CPU.

    python projects/families/families.py                      the rows that docs/families.jsonl lacks, then the table
    python projects/families/families.py --rows 'UPerNet*'    these rows, anew
    python projects/families/families.py --table              only docs/families.md

A row is written when it ends, so that a killed call goes on where it was.
"""

import argparse
import contextlib
import fnmatch
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> None:
    """Runs rows and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', metavar='PATTERN', help='names of rows, as in a shell (those that are not there)')
    parser.add_argument('--table', action='store_true', help='run nothing')
    parser.add_argument('--lines', type=Path, default=ROOT / 'docs' / 'families.jsonl', help='(%(default)s)')
    parser.add_argument('--page', type=Path, default=ROOT / 'docs' / 'families.md', help='(%(default)s)')
    parser.add_argument('--seconds', type=float, default=1800, help='for one row (%(default)s)')
    parser.add_argument('--show', action='store_true', help='all that the runs print')
    args = parser.parse_args(arguments)
    from mmseg_families.catalogue import ROWS
    from mmseg_families.lines import read_lines, write_line
    from mmseg_families.table import table

    if not args.table:
        done = read_lines(args.lines)
        wanted = [
            row for row in ROWS if (fnmatch.fnmatchcase(row.name, args.rows) if args.rows else row.name not in done)
        ]
        if not wanted:
            print('no row to run')
        with tempfile.TemporaryDirectory() as folder:
            for number, row in enumerate(wanted, 1):
                start = time.perf_counter()
                with quiet(not args.show):
                    line = in_time(row, Path(folder), args.seconds)
                write_line(args.lines, line)
                shutil.rmtree(Path(folder, 'runs'), ignore_errors=True)
                said = f'{line["ended"]} {line.get("reason", "")}'
                print(f'{number}/{len(wanted)} {row.name}: {said} ({time.perf_counter() - start:.0f} s)', flush=True)
    args.page.write_text(table(read_lines(args.lines)), encoding='utf-8')


def in_time(row: Any, folder: Path, seconds: float) -> dict[str, Any]:
    """A row, which may take so long."""
    from mmseg_families.walk import walk

    def stop(*_: Any) -> None:
        raise TimeoutError(f'not finished in {seconds:.0f} s')

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return walk(row, folder)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def quiet(on: bool) -> Iterator[None]:
    """Nothing of what is printed inside, by whatever means."""
    if not on:
        yield
        return
    kept, nowhere = [os.dup(number) for number in (1, 2)], os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)
        os.close(nowhere)


if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    main()
