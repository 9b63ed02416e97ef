"""The tiny training of `tiny_self_improving.py`."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('tiny_self_improving.py')


@pytest.fixture(scope='package', autouse=True)
def one_thread():
    """As in the processes of their own: another number of threads sums in another order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def tiny():
    """The module with the tiny models, data and runners."""
    spec = importlib.util.spec_from_file_location('tiny_self_improving', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def scene_files(tiny, tmp_path_factory) -> Path:
    """Folder with six real images and a store of four synthetic ones."""
    root = tmp_path_factory.mktemp('data') / 'scenes'
    tiny.make_scene_files(root)
    return root
