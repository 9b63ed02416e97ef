"""The door of the dataset checker: exit status, what it prints, report and picture."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

spec = importlib.util.spec_from_file_location(
    'check_dataset_tool', Path(__file__).parents[2] / 'tools' / 'check_dataset.py'
)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
SIZE = 40


@pytest.fixture
def config(tmp_path):
    """A config file of two classes: the left half of each image is `left`, the right half `right`, a line ignored."""
    random = np.random.default_rng(0)
    label = np.repeat(np.arange(SIZE)[None] * 2 // SIZE, SIZE, axis=0).astype(np.uint8)
    label[0] = 255
    for part in ('train', 'val'):
        for kind in ('images', 'labels'):
            (tmp_path / kind / part).mkdir(parents=True)
        for number in range(2):
            image = random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / 'images' / part / f'{number}.png')
            Image.fromarray(label).save(tmp_path / 'labels' / part / f'{number}.png')
    loaders = ''.join(
        f"{part}_dataloader = dict(dataset=dict(type='BaseSegDataset', data_root={str(tmp_path)!r}, img_suffix='.png', "
        f"metainfo=dict(classes=['left', 'right'], palette=[[255, 0, 0], [0, 255, 0]]), "
        f"data_prefix=dict(img_path='images/{part}', seg_map_path='labels/{part}')))\n"
        for part in ('train', 'val')
    )
    (tmp_path / 'config.py').write_text(loaders)
    return tmp_path / 'config.py'


def run(config, *flags):
    return tool.main([str(config), '--out', str(config.parent / 'out'), *flags])


def test_clean_set(config, capsys):
    assert run(config) == 0
    out = capsys.readouterr().out
    assert 'train: BaseSegDataset' in out and '2 of 2 classes occur: left 48.8%, right 48.8%' in out
    assert '0 errors, 0 warnings: ready to train' in out
    report = json.loads((config.parent / 'out/report.json').read_text())
    assert (report['errors'], report['warnings'], len(report['parts'])) == (0, 0, 2)
    assert report['parts'][0]['shares'] == {'left': 0.4875, 'right': 0.4875} and report['parts'][0]['ignored'] == 0.025


def test_picture_shows_labels_over_images(config):
    assert run(config, '--pictures', '1') == 0
    sheet = np.asarray(Image.open(config.parent / 'out/overlays.png')).astype(int)
    # One 40 × 40 pair at nine times its size, below a title and a line of captions, 8 pixels of margin around.
    image, over = (sheet[42 : 42 + 360, x : x + 360] for x in (8, 8 + 368))
    expected = image * 0.45
    expected[:, :180, 0] += 255 * 0.55
    expected[:, 180:, 1] += 255 * 0.55
    expected[:9] = image[:9] * 0.4
    assert np.abs(over - expected).max() <= 1


def test_faults_are_printed_counted_and_written(config, capsys):
    broken = config.parent / 'labels/train/1.png'
    Image.fromarray(np.full((SIZE, SIZE), 2, np.uint8)).save(broken)
    assert run(config) == 1
    out = capsys.readouterr().out
    assert f'ERROR label-values in train: 1\n    {broken}\n        found label values [2]; expected 0 … 1 or 255' in out
    assert 'ignore_index=2' in out and 'do not train before the errors are mended' in out
    (problem,) = json.loads((config.parent / 'out/report.json').read_text())['parts'][0]['problems']
    assert (problem['severity'], problem['check'], problem['file']) == ('error', 'label-values', str(broken))


def test_missing_data_still_gives_a_report(config, capsys):
    assert run(config, '--cfg-options', 'val_dataloader.dataset.data_root=no/such/folder') == 1
    out = capsys.readouterr().out
    assert 'ERROR missing-folder in val: 2' in out and 'train: BaseSegDataset' in out
    assert (config.parent / 'out/overlays.png').is_file()


def test_config_without_data(tmp_path, capsys):
    (tmp_path / 'empty.py').write_text('a = 1\n')
    assert run(tmp_path / 'empty.py') == 1
    assert 'found no train, val or test dataloader' in capsys.readouterr().err


@pytest.mark.parametrize('flags', [['--limit', '0'], ['--pictures', '-1'], ['--workers', '0']])
def test_flags_that_make_no_sense(config, flags):
    with pytest.raises(SystemExit):
        run(config, *flags)
