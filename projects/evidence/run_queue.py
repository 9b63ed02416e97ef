"""A queue of processes, some at a time, one thread each, each with a log of its own."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

Run = TypeVar('Run')


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
