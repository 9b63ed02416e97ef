"""The chain looks at its data before it trains, and at what is cheap before what is not."""

import pytest
from tiny_chain import chain_config

from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.training import chain
from mmdiff2in1.training.chain import dry_run, train


def test_the_chain_checks_before_it_trains(chain_folder, tmp_path):
    cfg = chain_config(chain_folder)
    cfg.model.segmentor.decode_head.head.num_classes = 2
    with pytest.raises(ValueError, match='num_classes: found 2; expected 11, the classes of ScenesDataset'):
        train(cfg, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_start_that_is_not_there_is_found_before_the_data_are_read(chain_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(chain, 'check_data', lambda _: pytest.fail('read'))
    cfg = chain_config(chain_folder)
    cfg.load_from = 'gone.pth'
    with pytest.raises(FileNotFoundError, match='^load_from=gone.pth: no such checkpoint; correct it'):
        train(cfg, tmp_path / 'work')
    cfg.load_from = 'https://example.org/gone.pth'  # which mmengine fetches
    with pytest.raises(pytest.fail.Exception, match='read'):
        train(cfg, tmp_path / 'work')


@pytest.mark.parametrize('plain', [False, True])
def test_a_dry_run_finds_what_a_training_would(chain_folder, tmp_path, plain):
    """A wrong number of labels, and what a built stage does not take."""
    cfg = read_config('unet_scenes') if plain else chain_config(chain_folder)
    if plain:
        for part in ('train', 'val', 'test'):
            cfg[f'{part}_dataloader'].dataset.data_root = str(chain_folder / 'scenes')
    dataset = cfg.train_dataloader.dataset if plain else cfg.train_dataloader.dataset.dataset
    for count, message in ((9, 'num_labelled=9: expected 1 to 8'), (4, 'Adamm is not in the optimizer registry')):
        dataset.num_labelled, cfg.optim_wrapper.optimizer.type = count, 'Adamm'
        with pytest.raises(ValueError, match=message):
            list(dry_run(cfg, tmp_path / 'work'))
    assert not (tmp_path / 'work').exists()
