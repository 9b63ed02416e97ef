"""A queue of processes, some at a time, one thread each, each with a log of its own."""

import argparse
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from mmdiff2in1.core.atomic_files import complete_lines

Run = TypeVar('Run')


def queue_parser(description: str | None, name: str, run: str) -> argparse.ArgumentParser:
    """The command line of a script with a queue, as `queue` reads it.

    Args:
        description: Of the script.
        name: Of its lines in docs/evidence and of its folder in work_dirs.
        run: What the name of a run is.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    out, folder = Path(f'docs/evidence/{name}.jsonl'), Path(f'work_dirs/{name}')
    add('--data-root', type=Path, default=Path('data/scenes'), help='set of make_scenes.py (%(default)s)')
    add('--out', type=Path, default=out, help='one line per run (%(default)s)')
    add('--work-dir', type=Path, default=folder, help='checkpoints and images (%(default)s)')
    add('--seeds', type=int, nargs='+', default=[0, 1, 2], help='(0 1 2)')
    add('--at-once', type=int, default=2, help='runs at a time, one thread each (%(default)s)')
    add('--dry-run', action='store_true', help='list the runs, then stop')
    add('--table', action='store_true', help='print what --out says as Markdown, then stop')
    add('--run', nargs=2, metavar=(run, 'SEED'), help=argparse.SUPPRESS)  # a child: this one alone
    return parser


def slug(name: str) -> str:
    """A name of a run as a name of a file."""
    return re.sub(r'\W+', '-', name)


def queue(
    wanted: Sequence[tuple[str, int]],
    key: str,
    args: argparse.Namespace,
    log: Callable[[str, int], Path],
    ended: Callable[[str, int], None] = lambda name, seed: None,
) -> None:
    """Lists the runs, and calls the script that is running anew for each that has no line yet: ``--run NAME SEED``.

    Args:
        wanted: (name, seed) of each run.
        key: What the name stands under in a line; the seed stands under ``seed``.
        args: ``out``, where the lines are; ``at_once``; ``dry_run``, to list only.
        log: Of a run.
        ended: Called for each run that ended, failed or not.

    Raises:
        SystemExit: One of them failed; the others were finished first.
    """
    done = {(line[key], line['seed']) for line in map(json.loads, complete_lines(args.out))}
    for name, seed in wanted:
        print(f'{"done " if (name, seed) in done else "to do"}  {name}, seed {seed}')
    waiting = [run for run in wanted if run not in done]
    if args.dry_run or not waiting:
        return
    run_queue(
        waiting,
        command=lambda run: [sys.executable, *sys.argv, '--run', run[0], str(run[1])],
        log=lambda run: log(*run),
        at_once=args.at_once,
        ended=lambda run: ended(*run),
    )


def run_queue(
    runs: Sequence[Run],
    command: Callable[[Run], list[str]],
    log: Callable[[Run], Path],
    at_once: int,
    ended: Callable[[Run], None] = lambda run: None,
) -> None:
    """Starts the command of every run; `ended` is called for each, failed or not. Logs are appended to.

    Raises SystemExit if one of them failed; the others were finished first.
    """
    waiting = list(runs)
    running: dict[subprocess.Popen, Run] = {}
    failed, bar = [], tqdm(total=len(waiting), unit='run')
    while waiting or running:
        while waiting and len(running) < at_once:
            run = waiting.pop(0)
            log(run).parent.mkdir(parents=True, exist_ok=True)
            with open(log(run), 'a') as file:
                environment = os.environ | {'OMP_NUM_THREADS': '1'}
                child = subprocess.Popen(command(run), stdout=file, stderr=subprocess.STDOUT, env=environment)
            running[child] = run
        time.sleep(1)
        for child in [child for child in running if child.poll() is not None]:
            run = running.pop(child)
            failed += [run] if child.returncode else []
            ended(run)
            bar.update()
    if failed:
        raise SystemExit(f'{len(failed)} runs failed: {failed}; see their logs in {log(failed[0]).parent}')


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process works in the folder: runs share what they start from."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
