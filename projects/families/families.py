"""Takes configs that mmseg ships through the whole way of this package, at a tiny size on a CPU.

    python projects/families/families.py                      the rows that docs/families.jsonl lacks, then the table
    python projects/families/families.py --rows 'UPerNet*'    these rows, anew
    python projects/families/families.py --table              only docs/families.md

Each row runs in a process of its own and is written when it ends, so that a killed call goes on where it was.
"""

import argparse
import fnmatch
import multiprocessing
import os
import shutil
import tempfile
import time
import warnings
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
    parser.add_argument('--seconds', type=float, default=900, help='for one row (%(default)s)')
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
                line = alone(row, Path(folder), args.seconds, args.show)
                write_line(args.lines, line)
                shutil.rmtree(Path(folder, 'runs'), ignore_errors=True)
                said = f'{line["ended"]} {line.get("reason", "")}'
                print(f'{number}/{len(wanted)} {row.name}: {said} ({time.perf_counter() - start:.0f} s)', flush=True)
    args.page.write_text(table(read_lines(args.lines)), encoding='utf-8')


def alone(row: Any, folder: Path, seconds: float, show: bool) -> dict[str, Any]:
    """A row in a process of its own, which may take so long and may die."""
    from mmseg_families.walk import walk

    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        if not show:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
        theirs.send(walk(row, folder))

    process = context.Process(target=work)
    process.start()
    theirs.close()
    line = dict(row=row.name, family=row.family, setting=row.setting, config=row.config, ended='plain')
    try:
        line = ours.recv() if ours.poll(seconds) else line | dict(reason=f'not finished in {seconds:.0f} s')
    except EOFError:
        line |= dict(reason='its process died')
    process.kill()
    process.join()
    return line


if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    main()
