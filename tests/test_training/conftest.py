"""Scenes, tiny weights and one straight run of the chain, shared by the tests of this folder."""

import pytest
from tiny_chain import chain_config, prepare

from mmdiff2in1.training.chain import train


@pytest.fixture(scope='session')
def chain_folder(tmp_path_factory, tiny_diffusion_config):
    """See `prepare`."""
    return prepare(tmp_path_factory.mktemp('chain'), tiny_diffusion_config)


@pytest.fixture(scope='session')
def straight(chain_folder):
    """Work dir and results of one uninterrupted chain."""
    work_dir = chain_folder / 'straight'
    return work_dir, train(chain_config(chain_folder), work_dir)
