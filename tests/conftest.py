"""Tiny real components, built in the test: nothing is downloaded.

torch is imported where it is used: the process that only hands out the tests need not wait for it.
"""

import copy
import gc
import os

os.environ.setdefault('HF_HUB_OFFLINE', '1')

import pytest

LONG = ('test_training', 'test_tools', 'test_evidence', 'test_converters')
"""Folders whose files take longest: begun first, so that no process has one left when the others are done."""
TINY_DIFFUSION = dict(
    vae=dict(
        block_out_channels=(8, 16),
        down_block_types=('DownEncoderBlock2D',) * 2,
        up_block_types=('UpDecoderBlock2D',) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
        scaling_factor=0.5,
    ),
    unet=dict(
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'),
        cross_attention_dim=16,
        attention_head_dim=2,
    ),
    text_encoder=dict(num_hidden_layers=1, num_attention_heads=2, intermediate_size=32),
    scheduler=dict(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule='scaled_linear',
        prediction_type='epsilon',
        clip_sample=False,
    ),
    words=['a', 'and', 'ball', 'floor', 'red', 'table', 'wall'],
    max_length=8,
)
"""Image sides are multiples of 8; the latent has half the image's resolution and three levels of one layer."""

TWO_LAYER_DIFFUSION = TINY_DIFFUSION | dict(unet=TINY_DIFFUSION['unet'] | dict(layers_per_block=2))
"""As many layers a level as Stable Diffusion, for tests of blocks by their numbers."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture(scope='session', autouse=True)
def cache(tmp_path_factory):
    """What is kept between runs stays out of the home of whoever runs the tests."""
    os.environ['MMDIFF2IN1_CACHE'] = str(tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module', autouse=True)
def imported_stays():
    """mmengine collects garbage at every data set: a quarter of a second among all that the libraries have imported,
    which is taken out of the search."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='module', autouse=True)
def no_scope_of_others():
    """The default scope of a run stays behind it in mmengine; the tests of the next file begin without one."""
    from mmengine.registry import DefaultScope

    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def tiny_diffusion_config() -> dict:
    return TINY_DIFFUSION


@pytest.fixture(scope='session')
def two_layer_config() -> dict:
    return TWO_LAYER_DIFFUSION


@pytest.fixture(scope='session')
def _tiny_diffusion():
    return _built(TINY_DIFFUSION)


@pytest.fixture(scope='session')
def _two_layer_diffusion():
    return _built(TWO_LAYER_DIFFUSION)


@pytest.fixture
def tiny_diffusion(_tiny_diffusion):
    """Built once, copied for each test."""
    return _copied(_tiny_diffusion)


@pytest.fixture
def two_layer_diffusion(_two_layer_diffusion):
    """Built once, copied for each test."""
    return _copied(_two_layer_diffusion)


def _built(config: dict):
    import torch

    from mmdiff2in1.generators import LatentDiffusion

    torch.manual_seed(0)
    return LatentDiffusion.from_config(config)


def _copied(diffusion):
    import torch

    torch.manual_seed(0)
    return copy.deepcopy(diffusion)
