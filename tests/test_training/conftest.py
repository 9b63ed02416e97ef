"""Scenes, tiny weights and one straight run of the chain, shared by the tests of this folder."""

import pytest


@pytest.fixture(scope='session')
def chain_folder(tmp_path_factory, tiny_diffusion_config):
    """See `prepare`."""
    from tiny_chain import prepare

    return prepare(tmp_path_factory.mktemp('chain'), tiny_diffusion_config)


@pytest.fixture(scope='session')
def straight(chain_folder):
    """Work dir and results of one uninterrupted chain, with as many threads as those that are killed have."""
    import torch
    from tiny_chain import chain_config

    from mmdiff2in1.training.chain import train

    work_dir, threads = chain_folder / 'straight', torch.get_num_threads()
    torch.set_num_threads(1)
    results = train(chain_config(chain_folder), work_dir)
    torch.set_num_threads(threads)
    return work_dir, results
