"""The weights that come with the package: complete, small, and as good as their README says."""

import math
from pathlib import Path

import pytest
import torch

import mmdiff2in1.generators
from mmdiff2in1.datasets.scenes import render_scene
from mmdiff2in1.datasets.scenes.write import PART_STARTS
from mmdiff2in1.generators import LatentDiffusion

FOLDER = Path(mmdiff2in1.generators.__file__).parent / 'builtin' / 'scenes'


@pytest.fixture(scope='module')
def scenes_diffusion():
    return LatentDiffusion.from_pretrained('builtin:scenes')


@pytest.fixture(scope='module')
def validation():
    """Twelve scenes of the validation part, which the weights were not trained on."""
    return [render_scene(0, PART_STARTS['val'] + i) for i in range(12)]


def _images(scenes) -> torch.Tensor:
    return torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes]) / 127.5 - 1


def test_all_in_all_at_most_20_mb():
    assert sum(file.stat().st_size for file in FOLDER.rglob('*') if file.is_file()) <= 20e6


def test_no_path_of_the_machine_that_made_them(scenes_diffusion, tmp_path):
    scenes_diffusion.save_folder(tmp_path)
    for folder in (FOLDER, tmp_path):
        for file in folder.rglob('*.json'):
            assert '_name_or_path' not in file.read_text(), file


def test_autoencoder_reaches_30_db(scenes_diffusion, validation):
    images = _images(validation)
    with torch.no_grad():
        decoded = scenes_diffusion.decode(scenes_diffusion.encode(images))
    errors = ((decoded - images) / 2).square().mean((1, 2, 3))
    assert sum(-10 * math.log10(error) for error in errors.tolist()) / len(errors) >= 30


def test_every_word_of_the_captions_is_known(scenes_diffusion, validation):
    ids = scenes_diffusion.text.token_ids([scene.caption for scene in validation])
    assert not (ids == scenes_diffusion.text.tokenizer.unk_token_id).any()


def test_denoiser_predicts_better_than_the_mean(scenes_diffusion, validation):
    """At every noise level the U-Net explains most of what the mean of its target leaves unexplained."""
    schedule, images = scenes_diffusion.schedule, _images(validation)
    context = scenes_diffusion.encode_text([scene.caption for scene in validation])
    with torch.no_grad():
        z0 = scenes_diffusion.encode(images)
        for step in (100, 400, 700):
            noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(step))
            t = torch.full((len(z0),), step)
            output = scenes_diffusion.unet(schedule.add_noise(z0, noise, t), t, context).sample
            target = schedule.target(z0, noise, t)
            assert (output - target).square().mean() < 0.6 * target.var()
