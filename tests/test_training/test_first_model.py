"""A first config on a pretrained encoder: what is written fits it, and trains."""

import json

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image
from transformers import AutoBackbone, ConvNextConfig, Dinov2Config, SegformerConfig, SegformerModel

from mmdiff2in1.__main__ import main
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.training.first_model import of_encoder

MEAN, STD = [0.5, 0.25, 0.2], [0.5, 0.5, 0.1]


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Narrow encoders with random weights, as `save_pretrained` writes them."""
    root = tmp_path_factory.mktemp('encoders')
    torch.manual_seed(0)
    plain = Dinov2Config(hidden_size=8, num_hidden_layers=8, num_attention_heads=2, image_size=28)
    AutoBackbone.from_config(plain).save_pretrained(root / 'dinov2')
    stages = SegformerConfig(
        hidden_sizes=[4, 8, 12, 16], num_attention_heads=[1, 2, 2, 2], depths=[1] * 4, decoder_hidden_size=8
    )
    SegformerModel(stages).save_pretrained(root / 'mit')
    (root / 'mit/preprocessor_config.json').write_text(json.dumps(dict(image_mean=MEAN, image_std=STD)))
    return root


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for name in ('photos', 'masks'):
        (tmp_path / name).mkdir()
    for index in range(10):
        Image.fromarray(rng.integers(0, 256, (50, 64, 3), dtype=np.uint8)).save(tmp_path / f'photos/{index}.jpg')
        mask = np.zeros((50, 64), np.uint8)
        mask[10:30, 10 + index : 30 + index] = 1
        Image.fromarray(mask).save(tmp_path / f'masks/{index}.png')
    return [f'--{name}={tmp_path / name}' for name in ('photos', 'masks')]


def test_a_plain_transformer_gives_four_of_its_layers(folders):
    """Nine maps of one stride, the stem's among them: every second layer, and sides that its patches of 14 fill."""
    model = of_encoder(folders / 'dinov2', frozen=True, classes=3)
    assert 'out_indices=[2, 4, 6, 8], frozen=True' in model.fields and 'in_channels=[8, 8, 8, 8]' in model.fields
    assert model.multiple == 14 and 'mean=[123.675, 116.28, 103.53]' in model.preprocessor


def test_an_encoder_of_stages_gives_them_all(folders):
    model = of_encoder(folders / 'mit', frozen=False, classes=3)
    assert 'in_channels=[4, 8, 12, 16]' in model.fields and 'num_classes=3' in model.fields
    assert model.multiple == 32 and 'mean=[127.5, 63.75, 51.0], std=[127.5, 127.5, 25.5]' in model.preprocessor


@pytest.mark.parametrize(('name', 'crop', 'flags'), [('dinov2', (42, 56), ['--frozen']), ('mit', (32, 64), [])])
def test_from_a_folder_of_pairs_to_a_trained_model(folders, data, name, crop, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images, masks = (text.partition('=')[2] for text in data)
    main(
        ['init', '--images', images, '--masks', masks, '--classes', 'a,b', '--name', 'mine', '--steps', '10']
        + ['--encoder', str(folders / name), *flags]
    )
    assert f'crops of {crop[1]} × {crop[0]}' in capsys.readouterr().out
    cfg = read_config(tmp_path / 'mine.py')
    assert cfg.crop_size == crop and cfg.optim_wrapper.paramwise_cfg.custom_keys.decode_head.lr_mult == 10.0
    init_default_scope('mmseg')
    trained = {key for key, tensor in MODELS.build(cfg.model).named_parameters() if tensor.requires_grad}
    assert any(key.startswith('backbone.') for key in trained) != bool(flags)
    if not flags:
        return  # to train one of them says enough

    loaders = [f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')]
    few = ['train_cfg.max_iters=10', 'train_cfg.val_interval=10', 'train_dataloader.batch_size=2']
    main(['train', 'mine-paste.py', '--cfg-options', *loaders, *few, 'stages.synthesis.samples_per_image=1'])
    results = json.loads((tmp_path / 'work_dirs/mine-paste/results.json').read_text())
    assert 0 <= results['test']['mIoU'] <= 100


def test_an_encoder_of_other_images_is_refused(tmp_path):
    grey = ConvNextConfig(num_channels=1, hidden_sizes=[4, 8], depths=[1, 1], num_stages=2)
    AutoBackbone.from_config(grey).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='an encoder of images of 1 channels, expected 3, RGB'):
        of_encoder(tmp_path, frozen=False, classes=2)


def test_refusals(capsys):
    own = ['init', '--images', 'a', '--masks', 'b', '--classes', 'x,y']
    for flags, said in (
        (['--encoder', 'dinov2', '--model', 'unet'], '--encoder is the model: leave out --model and --from'),
        (['--frozen'], '--frozen belongs to --encoder FOLDER'),
    ):
        with pytest.raises(SystemExit):
            main([*own, *flags])
        assert said in capsys.readouterr().err
