"""Torture: what docs/reliability.md promises, tried at random.

    make torture                                            ten minutes, another seed each time
    PYTHONPATH=tests python -m torture --minutes 60         longer
    PYTHONPATH=tests python -m torture --seed 3 --count 50  fifty trials of each kind, the same every time
    PYTHONPATH=tests python -m torture --seed 3 --only kills:17     one of them again; its folder is kept

Kinds: kills (SIGKILL at a random file event of a random stage, or some time after it, up to three times, then resumed:
the result must be that of a straight run to the bit), stores (one of the ways to damage a store of created images:
mended, or refused by name), files (checkpoints that run code, by one of the ways into the package: refused by name,
nothing runs), configs (one value of one of six changed: refused before the start by name, or without harm), inputs (an
image, a label, a list, captions, class names, weights or a config spoilt: the same). A tiny diffusion model and eight
scenes on the processor; one JSON line a trial; exit status 1 if anything was not as promised, with the command that
repeats it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# Of each process; forked ones inherit what was imported, and must not inherit threads.
os.environ.setdefault('OMP_NUM_THREADS', '1')

from tqdm import tqdm

from . import configs, files, inputs, kills, stores
from .chain import Chain
from .child import own_group
from .trial import Outcome

KINDS = {'kills': kills, 'stores': stores, 'files': files, 'configs': configs, 'inputs': inputs}
SHARES = {'kills': 0.35, 'stores': 0.2, 'files': 0.05, 'configs': 0.2, 'inputs': 0.2}
"""Of the time."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser('torture', description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add('--minutes', type=float, default=10.0, help='no trial begins later (%(default)g)')
    add('--count', type=int, help='trials of each kind, in the place of --minutes')
    add('--seed', type=int, help='of what is drawn (another each time; it is printed)')
    add('--kinds', nargs='+', choices=KINDS, default=list(KINDS), help='(all)')
    add('--only', metavar='KIND:NUMBER', help='one trial, whose folder is kept')
    add('--at-once', type=int, default=min(2, os.cpu_count() or 1), help='processes (%(default)d)')
    add('--out', type=Path, default=Path('work_dirs/torture.jsonl'), help='raw results (%(default)s)')
    add('--work-dir', type=Path, help='(a temporary folder; what failed is kept there)')
    args = parser.parse_args(arguments)
    if args.only:
        kind, _, number = args.only.partition(':')
        if kind not in KINDS or not number.isdigit():
            parser.error(f'--only {args.only}: expected KIND:NUMBER, e.g. kills:17; kinds: {", ".join(KINDS)}')
        if args.seed is None:
            parser.error('--only needs the --seed of the run that it repeats a trial of')
    return args


def main(arguments: list[str] | None = None) -> int:
    """Runs the trials, prints the table; 1 if a promise was broken."""
    args = parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    work_dir = args.work_dir or Path(tempfile.mkdtemp(prefix='torture-'))
    print(f'seed {seed}; in {work_dir}; first the straight run', flush=True)
    chain = Chain(work_dir / 'chain')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.only:
        kind, number = args.only.split(':')
        outcomes = [_one(chain, work_dir, kind, int(number), seed, keep=True)]
        print(f'log and folder: {work_dir / f"{kind}-{number}"}')
    else:
        outcomes = _Queue(args, chain, work_dir, seed).run()
    print(table(outcomes))
    broken = [outcome for outcome in outcomes if outcome.broken]
    if not broken and not args.only and not args.work_dir:
        shutil.rmtree(work_dir)
    return int(bool(broken))


class _Queue:
    """Trials in processes of their own, as many at once as asked for; the next is of the kind most behind its share."""

    def __init__(self, args: argparse.Namespace, chain: Chain, work_dir: Path, seed: int):
        self.args, self.chain, self.work_dir, self.seed = args, chain, work_dir, seed
        self.spent = dict.fromkeys(args.kinds, 0.0)
        self.begun: Counter[str] = Counter()
        self.running: dict[int, tuple[str, int]] = {}
        self.outcomes: list[Outcome] = []

    def run(self) -> list[Outcome]:
        """All trials; an interrupt ends them, and what is there is shown."""
        started, count, total = time.monotonic(), self.args.count, 60 * self.args.minutes
        bar = tqdm(
            total=count * len(self.args.kinds) if count else round(total), unit='trial' if count else 's', mininterval=1
        )
        try:
            while True:
                kind = self._next(time.monotonic() - started < total)
                while kind and len(self.running) < self.args.at_once:
                    self._start(kind)
                    kind = self._next(time.monotonic() - started < total)
                if not self.running:
                    return self.outcomes
                self._collect()
                done = len(self.outcomes) if count else min(total, time.monotonic() - started)
                broken = sum(bool(outcome.broken) for outcome in self.outcomes)
                bar.set_postfix_str(f'{len(self.outcomes)} trials, {broken} broken', refresh=False)
                bar.update(int(done) - bar.n)
        except KeyboardInterrupt:
            for child in self.running:
                os.killpg(child, signal.SIGKILL)
            return self.outcomes
        finally:
            bar.close()

    def _next(self, time_left: bool) -> str | None:
        kinds = [kind for kind in self.args.kinds if not self.args.count or self.begun[kind] < self.args.count]
        if not kinds or (not self.args.count and not time_left):
            return None
        waiting = Counter(kind for kind, _ in self.running.values())
        return min(kinds, key=lambda kind: (self.spent[kind] + 20 * waiting[kind]) / SHARES[kind])

    def _start(self, kind: str) -> None:
        number = self.begun[kind]
        self.begun[kind] += 1
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                own_group()
                outcome = _one(self.chain, self.work_dir, kind, number, self.seed)
                self._file(kind, number).write_text(json.dumps(outcome.as_record(number, self.seed)))
                code = 0
            finally:
                os._exit(code)
        own_group(child)
        self.running[child] = kind, number

    def _file(self, kind: str, number: int) -> Path:
        return self.work_dir / f'{kind}-{number}.json'

    def _collect(self) -> None:
        child, _ = os.waitpid(-1, os.WNOHANG)
        if not child:
            time.sleep(0.05)
            return
        kind, number = self.running.pop(child)
        file = self._file(kind, number)
        record = json.loads(file.read_text()) if file.is_file() else None
        if record is None:
            record = Outcome('the trial itself', 'failed', 'no result', kind).as_record(number, self.seed)
        with self.args.out.open('a') as out:
            out.write(json.dumps(record) + '\n')
        self.outcomes.append(Outcome(*(record[name] for name in ('what', 'came', 'broken', 'kind', 'seconds'))))
        self.spent[kind] += record['seconds']
        if record['broken']:
            again = f'PYTHONPATH=tests python -m torture --seed {self.seed} --only {kind}:{number}'
            tqdm.write(f'BROKEN {record["what"]}: {record["broken"]}\n  again: {again}')


def _one(chain: Chain, work_dir: Path, kind: str, number: int, seed: int, keep: bool = False) -> Outcome:
    """One trial in this process; its folder is removed if all was as promised."""
    started, folder = time.monotonic(), work_dir / f'{kind}-{number}'
    folder.mkdir()
    try:
        outcome = KINDS[kind].trial(chain, folder, random.Random(f'{seed}-{kind}-{number}'))
    except Exception as error:  # noqa: BLE001 (of the trial, not of what is tried)
        outcome = Outcome('the trial itself', 'failed', f'{type(error).__name__}: {error}')
    outcome.kind, outcome.seconds = kind, time.monotonic() - started
    if not outcome.broken and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def table(outcomes: list[Outcome]) -> str:
    """Markdown: what came of the trials of each kind."""
    lines = ['', '| | trials | as promised | what came of them |', '| :-- | --: | --: | :-- |']
    for kind in KINDS:
        of_kind = [outcome for outcome in outcomes if outcome.kind == kind]
        if of_kind:
            came = ', '.join(f'{name} {count}' for name, count in Counter(o.came for o in of_kind).most_common())
            kept = sum(not outcome.broken for outcome in of_kind)
            lines.append(f'| {kind} | {len(of_kind)} | {kept} | {came} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
