"""Scenes, tiny weights and one straight run of the chain, shared by the tests of this folder."""

import pytest
import torch
from tiny_chain import SIZE, chain_config

from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.training.chain import train


@pytest.fixture(scope='session')
def chain_folder(tmp_path_factory, tiny_diffusion_config):
    """``weights`` (a diffusers folder) and ``scenes`` (8 train, 4 val, 4 test images of 32 × 32)."""
    folder = tmp_path_factory.mktemp('chain')
    torch.manual_seed(0)
    LatentDiffusion.from_config(tiny_diffusion_config).save_folder(folder / 'weights')
    make_scenes(folder / 'scenes', {'train': 8, 'val': 4, 'test': 4}, size=SIZE, workers=1, progress=False)
    return folder


@pytest.fixture(scope='session')
def straight(chain_folder):
    """Work dir and results of one uninterrupted chain."""
    work_dir = chain_folder / 'straight'
    return work_dir, train(chain_config(chain_folder), work_dir)
