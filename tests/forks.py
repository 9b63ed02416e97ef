"""Other processes as forks of this one, which have imported already what takes longer than what tests ask of them."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from patience import patient


class Fork:
    """A process of one thread that calls a function and ends; what it says goes to the file ``log``."""

    def __init__(self, log: Path, function: Callable[..., object], *arguments: object):
        self.log = log
        self.process = multiprocessing.get_context('fork').Process(target=_call, args=(log, function, *arguments))
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        """As of ``subprocess.Popen``: minus the number of a signal; None while it runs."""
        return self.process.exitcode

    def said(self) -> str:
        """Until now."""
        return self.log.read_text() if self.log.exists() else ''

    def until(self, reached: Callable[[], bool]) -> 'Fork':
        """Waits for that, and returns itself; to end first is an error."""
        end = time.monotonic() + patient(200)
        while not reached():
            assert self.returncode is None, self.said()[-3000:]
            assert time.monotonic() < end, 'the point was not reached'
            time.sleep(0.002)
        return self

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL; returns when it is dead."""
        self.process.kill()
        self.process.join()

    def wait(self, seconds: float) -> str:
        """What it said until its end.

        Raises:
            TimeoutError: It runs for longer, by :func:`patient`, and is killed.
        """
        self.process.join(patient(seconds))
        if self.process.is_alive():
            self.kill()
            raise TimeoutError(f'still running after {patient(seconds)} s: {self.said()[-3000:]}')
        return self.said()


def skip_where_a_gpu_is_in_use() -> None:
    """For what would train on it: CUDA does not live on in a fork."""
    if torch.cuda.is_initialized():
        pytest.skip('a fork cannot use the GPU that this process uses; CUDA_VISIBLE_DEVICES= hides it from all tests')


def _call(log: Path, function: Callable[..., object], *arguments: object) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as Python starts
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = sys.stderr = open(1, 'w', buffering=1, closefd=False)  # pytest holds others
    function(*arguments)
