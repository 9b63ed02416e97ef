"""Training a generator from scratch, all the way on a few tiny images; a folder comes out that can be gone on from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.pretraining.options import PretrainingOptions
from mmdiff2in1.pretraining.run import pretrain


@pytest.fixture
def options(tmp_path):
    (tmp_path / 'images').mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / 'images' / f'{i}.png')
    with open(tmp_path / 'captions.jsonl', 'w') as file:
        file.writelines(json.dumps({'image': f'{i}.png', 'caption': 'a red ball'}) + '\n' for i in range(6))

    def make(name, **changes):
        places = dict(out=str(tmp_path / name), work_dir=str(tmp_path / f'{name}-work'))
        tiny = dict(size=(16, 16), widths=(16, 16), vae_widths=(8, 8), text_width=16, batch_size=2, validation=1)
        short = dict(images=str(tmp_path / 'images'), vae_iters=2, iters=2, val_interval=2, bf16=False)
        return PretrainingOptions(captions=str(tmp_path / 'captions.jsonl'), **(places | tiny | short | changes))

    return make


def test_a_second_training_goes_on_and_keeps_the_autoencoder(options):
    first = LatentDiffusion.from_pretrained(str(pretrain(options('first'))))
    second = LatentDiffusion.from_pretrained(str(pretrain(options('second', init=options('first').out, vae_iters=0))))
    for (name, one), other in zip(first.vae.state_dict().items(), second.vae.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    pairs = zip(first.unet.parameters(), second.unet.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)
    assert first.text.tokenizer.get_vocab() == second.text.tokenizer.get_vocab()
    settings = json.loads(Path(options('second').out, 'training.json').read_text())
    assert settings['vae_iters'] == 0 and settings['iters'] == 2


def test_a_decoder_alone(options):
    first = LatentDiffusion.from_pretrained(str(pretrain(options('first'))))
    second = LatentDiffusion.from_pretrained(
        str(pretrain(options('second', init=options('first').out, decoder_only=True)))
    )
    before, after = first.state_dict(), second.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith(('vae.decoder', 'vae.post_quant_conv')) for name in changed)
    settings = json.loads(Path(options('second').out, 'training.json').read_text())
    assert settings['decoder_only'] and settings['init'] == 'first' and 'widths' not in settings
    with pytest.raises(ValueError, match='expected a trained model in init'):
        pretrain(options('x', decoder_only=True))


def test_other_images_or_captions_are_no_finished_training(options, tmp_path, monkeypatch):
    """A work dir knows what it was trained on; without one of its own, each result has another."""
    monkeypatch.chdir(tmp_path)
    first = Path(pretrain(options('first', work_dir=None)))
    assert (tmp_path / 'work_dirs/pretraining/first/unet/finished.json').is_file()
    before = (first / 'unet' / 'diffusion_pytorch_model.safetensors').read_bytes()
    assert pretrain(options('first', work_dir=None)) == first  # finished: skipped
    Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(tmp_path / 'images' / '0.png')
    with pytest.raises(ValueError, match='holds this stage of another config'):
        pretrain(options('first', work_dir=None))
    second = Path(pretrain(options('second', work_dir=None)))
    assert (second / 'unet' / 'diffusion_pytorch_model.safetensors').read_bytes() != before


def test_no_autoencoder_is_refused_before_anything_is_read(options):
    with pytest.raises(ValueError, match='vae_iters is 0 and init is None'):
        pretrain(options('x', vae_iters=0, images='nowhere'))
