"""A training in several processes of this machine (gloo), as torchrun starts them."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from mmengine.config import Config

from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.engine.distributed import launcher_of_environment, wrapper_config

KINDS = ('plain', 'chain')
"""mmengine's runner, and the chain of this package."""
HERE = Path(__file__).parents[1]
KEPT = 3000
"""Letters of the output of a process that failed."""


def train_in_processes(cfg: Config, work_dir: Path, processes: int, kind: str) -> None:
    """Trains a config.

    Args:
        cfg: The config.
        work_dir: Of the training; beside it the config is written.
        processes: Their number.
        kind: One of `KINDS`.

    Raises:
        RuntimeError: A process failed; with the end of what it said.
    """
    file = work_dir.with_suffix('.py')
    file.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(file)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    shared = dict(
        WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes), MASTER_ADDR='127.0.0.1', MASTER_PORT=port,
        PYTHONPATH=os.pathsep.join([str(HERE), *sys.path]), PYTHONWARNINGS='ignore',
    )  # fmt: skip
    command = [sys.executable, '-m', f'{__package__}.several', kind, str(file), str(work_dir)]
    started = []
    try:
        for rank in map(str, range(processes)):
            env = os.environ | shared | dict(RANK=rank, LOCAL_RANK=rank)
            with work_dir.with_suffix(f'.{rank}.log').open('w') as log:
                started.append(subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT))
        while any(process.poll() is None for process in started) and not any(process.poll() for process in started):
            time.sleep(0.2)
        failed = [rank for rank, process in enumerate(started) if process.poll()]
    finally:
        for process in started:
            process.kill()
            process.wait()
    if failed:
        said = work_dir.with_suffix(f'.{failed[0]}.log').read_text()[-KEPT:].strip()
        raise RuntimeError(said.splitlines()[-1] if said else f'process {failed[0]} failed without a word')


def _work(kind: str, file: str, work_dir: str) -> None:
    import mmdiff2in1.components  # noqa: F401  registers
    from mmdiff2in1.training.chain import train

    from . import recording_hook  # noqa: F401  registers
    from .walk import as_mmseg_trains, unformatted

    cfg = read_config(Path(file))
    # mmengine's own start of a group, and its wrapper, name a GPU even where there is none.
    cfg.launcher, cfg.model_wrapper_cfg = launcher_of_environment(), wrapper_config()
    with unformatted():
        if kind == 'chain':
            train(cfg, work_dir)
        else:
            as_mmseg_trains(cfg, Path(work_dir))


if __name__ == '__main__':
    _work(*sys.argv[1:])
