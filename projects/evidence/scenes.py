"""Does the loop help? A queue of trainings on Scenes and CamVid, two at a time, one JSON line per run.

    python projects/evidence/scenes.py --dry-run                 # what would be run
    python projects/evidence/scenes.py                           # everything that is not in --out yet
    python projects/evidence/scenes.py --blocks main --labels 60 # a part of it
    python projects/evidence/report.py docs/evidence/runs.jsonl  # tables and plots

A job is a labelled set and a seed: its arms share one warm-up and see the same real batches (loop/lockstep.py).
Finished jobs are skipped; a killed one goes on from its last state in --work-dir. Blocks: knobs (settings), ready (a
teacher whose warm-up was annealed) and finetune (a U-Net that learns), scored on val only; main; range (20, 200 and 600
labels); camvid. What the arms are stands in loop/arms.py, which jobs there are in loop/jobs.py.
"""

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evidence.runs import CONTROL, REAL_ONLY
from tqdm import tqdm

from mmdiff2in1.core.atomic_files import append_line, complete_lines, write_atomically

RECORDS = 'records.jsonl'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', type=Path, default=Path('data/scenes'), help='Scenes, by make_scenes.py')
    parser.add_argument('--camvid-root', type=Path, default=Path('data/camvid'), help='CamVid (default: %(default)s)')
    parser.add_argument('--diffusion', default='builtin:scenes', help='generator of Scenes (default: %(default)s)')
    parser.add_argument(
        '--camvid-diffusion', default='work_dirs/camvid_diffusion', help='generator of CamVid (default: %(default)s)'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('docs/evidence/runs.jsonl'), help='one line per run is appended (%(default)s)'
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/experiments'), help='states and logs')
    parser.add_argument('--at-once', type=int, default=2, help='jobs at a time, one thread each (default: %(default)s)')
    for name, kind in (('blocks', str), ('sets', str), ('labels', int), ('seeds', int), ('tasks', str)):
        parser.add_argument(f'--{name}', nargs='+', type=kind, help=f'only jobs with one of these {name}')
    parser.add_argument('--dry-run', action='store_true', help='list the jobs and whether they are finished, then stop')
    parser.add_argument('--job', help=argparse.SUPPRESS)  # a child process: run this one and write its records
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Lists, runs, collects."""
    args = parse_args(argv)
    from loop.jobs import JOBS, Places, prepare  # after --help: this takes seconds

    if args.job:
        import torch

        import mmdiff2in1.components  # noqa: F401  registers the backbone

        torch.set_num_threads(1)
        job = next(job for job in JOBS if job.name == args.job)
        places = Places(args.data_root, args.camvid_root, args.work_dir, args.diffusion, args.camvid_diffusion)
        folder = args.work_dir / job.name
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            head = dict(block=job.block, set=job.set, labels=job.labels, seed=job.seed)
            lines = [json.dumps(head | record) + '\n' for record in prepare(job, places).run()]
            write_atomically(folder / RECORDS, ''.join(lines).encode())
        return

    wanted = [job for job in JOBS if _chosen(job, args)]
    # What a job finished while nobody waited for it, its parent having been killed.
    for job in wanted:
        collect(job, args)
    done = {_key(json.loads(line)) for line in complete_lines(args.out)}
    left = [job for job in wanted if not _keys(job) <= done]
    for job in wanted:
        print(f'{"to do" if job in left else "done ":5}  {job.name}: {len(job.arms(job.tasks[0])) + 1} arms')
    if args.dry_run or not left:
        return
    _check_inputs(left, args)
    run_queue(left, args)


def run_queue(jobs: list, args: argparse.Namespace) -> None:
    """Runs the jobs, ``args.at_once`` at a time, and appends the records of each when it ends.

    Raises:
        SystemExit: Jobs failed; the others were finished first.
    """
    waiting, running, failed = list(jobs), {}, []
    total = sum(job.schedule.warmup + job.schedule.self_improving for job in jobs)
    bar, ended = tqdm(total=total, unit='step', smoothing=0.02), 0
    while waiting or running:
        while waiting and len(running) < args.at_once and not _same_warm_up(waiting[0], running.values()):
            job = waiting.pop(0)
            running[_start(job, args)] = job
        time.sleep(1)
        for child in [child for child in running if child.poll() is not None]:
            job = running.pop(child)
            ended += job.schedule.warmup + job.schedule.self_improving
            if child.returncode:
                failed.append(job)
                tqdm.write(f'{job.name} failed, see {args.work_dir / job.name}.log')
                continue
            collect(job, args)
            tqdm.write(f'{job.name} is done')
        bar.update(ended + sum(_steps(args.work_dir / job.name) for job in running.values()) - bar.n)
    bar.close()
    if failed:
        raise SystemExit(f'{len(failed)} of {len(jobs)} jobs failed: {", ".join(job.name for job in failed)}')


def collect(job, args: argparse.Namespace) -> None:
    """Appends the records of a finished job that are not in ``args.out`` yet."""
    there = {_key(json.loads(line)) for line in complete_lines(args.out)}
    for line in complete_lines(args.work_dir / job.name / RECORDS):
        if _key(json.loads(line)) not in there:
            append_line(args.out, line)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A job outlives a killed parent; the next parent must not start it a second time beside itself.

    Raises:
        SystemExit: Another process works in ``folder``.
    """
    with open(folder / 'lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f'{folder}: another process is at this job; wait for it, or end it') from None
        yield


def _start(job, args: argparse.Namespace) -> subprocess.Popen:
    places = ('data_root', 'camvid_root', 'diffusion', 'camvid_diffusion', 'work_dir')
    flags = [text for name in places for text in (f'--{name.replace("_", "-")}', str(getattr(args, name)))]
    args.work_dir.mkdir(parents=True, exist_ok=True)
    with open(args.work_dir / f'{job.name}.log', 'ab') as log:
        return subprocess.Popen(
            [sys.executable, __file__, '--job', job.name, *flags],
            stdout=log,
            stderr=log,
            env=os.environ | {'OMP_NUM_THREADS': '1'},
        )


def _same_warm_up(job, others) -> bool:
    """Whether a running job is making the warm-up that this one would make too."""
    return any(job.warm_up == other.warm_up for other in others)


def _steps(folder: Path) -> int:
    try:
        return json.loads((folder / 'progress.json').read_text())[0]
    except (FileNotFoundError, ValueError):  # not there yet, or being written
        return 0


def _chosen(job, args: argparse.Namespace) -> bool:
    return (
        (not args.blocks or job.block in args.blocks)
        and (not args.sets or job.set in args.sets)
        and (not args.labels or job.labels in args.labels)
        and (not args.seeds or job.seed in args.seeds)
        and (not args.tasks or not set(args.tasks).isdisjoint(job.tasks))
    )


def _key(record: dict) -> tuple:
    return tuple(record[name] for name in ('block', 'set', 'labels', 'seed', 'task', 'arm'))


def _keys(job) -> set[tuple]:
    """Of every record that the job gives."""
    arms = {task: [REAL_ONLY, CONTROL, *(arm.name for arm in job.arms(task))] for task in job.tasks}
    return {(job.block, job.set, job.labels, job.seed, task, arm) for task in job.tasks for arm in arms[task]}


def _check_inputs(jobs: list, args: argparse.Namespace) -> None:
    from mmdiff2in1.generators.weights import resolve_weights  # after --help: this takes seconds

    needed = {'scenes': args.data_root / 'meta.json', 'camvid': args.camvid_root / 'splits' / 'train.txt'}
    for set_ in {job.set for job in jobs}:
        if not needed[set_].is_file():
            raise SystemExit(f'{needed[set_]} is not there; see --help, or leave the set {set_} out with --sets')
        weights = args.diffusion if set_ == 'scenes' else args.camvid_diffusion
        try:
            resolve_weights(weights)
        except (FileNotFoundError, ValueError) as error:
            raise SystemExit(f'{error}. Or train a small model with mmdiff2in1 pretrain') from None


if __name__ == '__main__':
    main()
