"""Another process that has a folder."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOLD = """
import sys, time
from mmdiff2in1.core.lock import locked
with locked(sys.argv[1], 'training'):
    print('ready', flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[int]:
    """A folder is locked by another process, of this number, until the block ends."""
    environment = os.environ | {'PYTHONPATH': str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, '-W', 'ignore', '-c', HOLD, str(folder)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == 'ready\n'
        yield process.pid
    finally:
        process.kill()
        process.wait()
