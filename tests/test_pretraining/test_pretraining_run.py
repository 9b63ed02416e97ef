"""Training a generator from scratch, all the way on a few tiny images; a folder comes out that can be gone on from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff2in1.__main__ import main
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.tokenizer import split_words
from mmdiff2in1.pretraining.image_folder import ImageCaptionFolder
from mmdiff2in1.pretraining.options import PretrainingOptions
from mmdiff2in1.pretraining.run import pretrain
from mmdiff2in1.pretraining.training_set import training_set


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


def test_images_and_captions_of_a_config(tmp_path, monkeypatch, capsys):
    """The training set of a built-in config, by name: of 8 rendered rooms the 6 that have labels."""
    make_scenes(tmp_path / 'scenes', {'train': 8}, size=32, workers=1, progress=False)
    monkeypatch.chdir(tmp_path)
    changes = dict(data_root='scenes', num_labelled=6)
    small = [f'train_dataloader.dataset.dataset.{key}={value}' for key, value in changes.items()]
    captions = 'scenes/train/captions.jsonl'
    options = ['--cfg-options', *small, f'stages.synthesis.captions={captions}']
    cfg = read_config('vpd_scenes')
    cfg.merge_from_dict({f'train_dataloader.dataset.dataset.{key}': value for key, value in changes.items()})
    cfg.stages.synthesis.captions = captions
    found = training_set(cfg)
    assert len(found.names) == 6 and found.folder == 'scenes'
    lines = [json.loads(line) for line in Path(captions).read_text().splitlines()]
    told = {line['image']: line['caption'] for line in lines}
    assert {Path(name).name: text for name, text in found.captions.items()} == {
        Path(name).name: told[next(key for key in told if Path(key).name == Path(name).name)] for name in found.names
    }
    cfg.stages.synthesis.captions = None
    assert training_set(cfg).captions is None and training_set(cfg, captions).captions == found.captions

    tiny = '--size 16 16 --widths 16 16 --vae-widths 8 8 --text-width 16 --batch-size 2 --validation 1 --vae-iters 2'
    main(['pretrain', 'vpd_scenes', *options, '--out', 'out', *tiny.split(), '--iters', '2', '--device', 'cpu'])
    out = capsys.readouterr().out
    assert 'vpd_scenes: 6 images of the training set, with their captions' in out and 'written: out' in out
    made = LatentDiffusion.from_pretrained('out')
    words = {word for text in found.captions.values() for word in split_words(text)}
    assert words <= set(made.text.tokenizer.get_vocab())
    folder = ImageCaptionFolder(found.folder, (16, 16), found.captions, found.names)
    assert folder.names == found.names and folder.captions == list(found.captions.values())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'expected either a CONFIG or --images FOLDER'),
        (['vpd_scenes', '--images', 'a'], 'expected either a CONFIG or --images FOLDER'),
        (['--images', 'a', '--cfg-options', 'a=1'], '--cfg-options changes a CONFIG; there is none'),
    ],
)
def test_a_config_or_a_folder(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(['pretrain', *arguments, '--out', 'out'])
    assert message in capsys.readouterr().err


def test_a_model_of_somebody_else_stays(options, tmp_path):
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x' / 'model_index.json').write_text('{}')
    with pytest.raises(FileExistsError, match='x holds a diffusion model that no pretraining wrote'):
        pretrain(options('x'))
