"""Scenes, tiny weights and one straight run of the chain, shared by the tests of this folder."""

import pytest


@pytest.fixture(scope='package', autouse=True)
def one_thread():
    """As in the processes that are killed: another number of threads sums in another order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='package')
def chain_folder(tmp_path_factory, tiny_diffusion_config):
    """See `prepare`."""
    from tiny_chain import prepare

    return prepare(tmp_path_factory.mktemp('chain'), tiny_diffusion_config)


@pytest.fixture(scope='package')
def straight(chain_folder, one_thread):
    """Work dir and results of one uninterrupted chain."""
    from tiny_chain import chain_config

    from mmdiff2in1.training.chain import train

    work_dir = chain_folder / 'straight'
    return work_dir, train(chain_config(chain_folder), work_dir)
