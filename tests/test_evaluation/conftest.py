"""The data and the processes of `process_of_two.py`."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('process_of_two.py')


@pytest.fixture(scope='session')
def of_two():
    """The module."""
    spec = importlib.util.spec_from_file_location('process_of_two', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def two_processes(of_two, tmp_path_factory):
    """What each of two processes saw and the figures that it got."""
    from forks import Fork

    folder = tmp_path_factory.mktemp('two_processes')
    processes = [
        Fork(folder / f'{rank}.log', of_two.main, rank, folder / 'meeting', folder / f'{rank}.json')
        for rank in range(2)
    ]
    outputs = [process.wait(120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], '\n'.join(outputs)
    return [json.loads((folder / f'{rank}.json').read_text()) for rank in range(2)]
