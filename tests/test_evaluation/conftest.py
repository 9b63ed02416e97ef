"""The data and the processes of `process_of_two.py`."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import patient

SCRIPT = Path(__file__).with_name('process_of_two.py')


@pytest.fixture(scope='session')
def of_two():
    """The module."""
    spec = importlib.util.spec_from_file_location('process_of_two', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def two_processes(tmp_path_factory):
    """What each of two processes saw and the figures that it got."""
    folder = tmp_path_factory.mktemp('two_processes')
    paths = [str(SCRIPT.parents[2]), os.environ.get('PYTHONPATH', '')]
    environment = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join(filter(None, paths)))
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(folder / 'meeting'), str(folder / f'{rank}.json')],
            env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=patient(120))[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], '\n'.join(outputs)
    return [json.loads((folder / f'{rank}.json').read_text()) for rank in range(2)]
