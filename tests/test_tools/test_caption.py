"""The command line of tools/caption.py: a tiny BLIP-2, class names, files; what it prints and what it refuses."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from tiny_captioner import save_captioner

from mmdiff2in1.captions import captions_of, read_captions
from mmdiff2in1.core.dataset_images import list_images
from mmdiff2in1.synthesis.sources import build_real_dataset

spec = importlib.util.spec_from_file_location('caption_tool', Path(__file__).parents[2] / 'tools' / 'caption.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp('model')
    save_captioner(folder)
    return folder


@pytest.fixture
def root(tmp_path):
    """Seven images; label map i has i + 1 pixels of wall, floor elsewhere."""
    root = tmp_path / 'data'
    for folder in ('images', 'labels'):
        (root / folder).mkdir(parents=True)
    for index in range(7):
        noise = np.random.default_rng(index).integers(0, 256, (8, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / 'images' / f'{index}.png')
        labels = np.ones((3, 3), np.uint8)
        labels.ravel()[: index + 1] = 0
        Image.fromarray(labels).save(root / 'labels' / f'{index}.png')
    return root


@pytest.fixture
def config(root, tmp_path):
    (tmp_path / 'tiny.py').write_text(
        f"""
train_dataloader = dict(dataset=dict(type='BaseSegDataset', data_root={str(root)!r}, img_suffix='.png',
    metainfo=dict(classes=('wall', 'floor')), data_prefix=dict(img_path='images', seg_map_path='labels'), pipeline=[]))
stages = dict(synthesis=dict(diffusion='builtin:scenes'))
"""
    )
    return tmp_path / 'tiny.py'


@pytest.fixture
def run(config, capsys):
    """run(*flags) → what the tool printed for the config."""

    def run(*flags):
        tool.main([str(config), *map(str, flags)])
        return capsys.readouterr().out

    return run


def test_blip2(run, root, config, model):
    out = run('--by', 'blip2', '--captioner', model, '--batch-size', 3, '--max-new-tokens', 5, '--device', 'cpu')
    assert f'written: {root}/captions.jsonl, captions of 7 images' in out
    assert f"in {config}: stages = dict(synthesis=dict(captions='{root}/captions.jsonl', …))" in out
    _, paths = list_images(build_real_dataset(Config.fromfile(config)))
    captions = read_captions(root / 'captions.jsonl')
    found = captions_of(paths, captions, fallback='')
    assert found == list(captions.values()) and len(set(found)) > 1
    assert f'  images/0.png: {found[0] or "(empty)"}\n' in out and f'  images/6.png: {found[6] or "(empty)"}\n' in out

    written = (root / 'captions.jsonl').read_bytes()
    (root / 'captions.jsonl').write_bytes(written[: written.index(b'images/4') + 5])
    flags = ('--captioner', model, '--batch-size', 4, '--max-new-tokens', 5, '--device', 'cpu')
    assert '7 images, of which 4 have a caption' in run('--by', 'blip2', *flags, '--dry-run')
    assert (root / 'captions.jsonl').read_bytes() == written[: written.index(b'images/4') + 5]
    run('--by', 'blip2', *flags)
    assert (root / 'captions.jsonl').read_bytes() == written


def test_classes(run, root):
    out = run('--by', 'classes', '--dry-run')
    assert f'7 images, of which 0 have a caption in {root}/captions.jsonl' in out
    assert 'images/0.png: a photo of floor and wall' in out and 'dry run: nothing was written' in out
    assert not (root / 'captions.jsonl').exists()
    out = run('--by', 'classes', '--template', 'photo: {names}')
    captions = list(read_captions(root / 'captions.jsonl').values())
    assert captions == ['photo: floor and wall'] * 4 + ['photo: wall and floor'] * 3
    assert "mind: 4 of 7 images have the caption 'photo: floor and wall'" in out
    assert run('--by', 'empty').count('photo:') > 0, 'captions that are there stay'
    out = run('--by', 'classes', '--max-names', 1, '--without', 'wall', '--redo', 'all', '--limit', 5)
    assert f'5 captions taken out of {root}/captions.jsonl' in out
    captions = read_captions(root / 'captions.jsonl')
    assert [captions[f'images/{index}.png'] for index in range(5)] == ['a photo of floor'] * 5
    assert captions['images/6.png'] == 'photo: wall and floor'


def test_empty_then_filled(run, root):
    out = run('--by', 'empty')
    assert 'mind: 7 captions are empty, the first is that of images/0.png' in out and "caption_fallback=''" in out
    run('--by', 'classes', '--redo', 'empty')
    assert '' not in read_captions(root / 'captions.jsonl').values()


def test_a_file(run, root, tmp_path):
    texts = tmp_path / 'caption'
    texts.mkdir()
    for index in range(6):
        (texts / f'{index}.txt').write_text(f'room {index}\n')
    with pytest.raises(SystemExit, match=r'no caption for 1 of 7 images, the first is .*images/6\.png'):
        run('--by', 'file', '--from', texts, '--out', tmp_path / 'out.jsonl')
    assert not (tmp_path / 'out.jsonl').exists()
    run('--by', 'file', '--from', texts, '--out', tmp_path / 'out.jsonl', '--fallback', 'a room')
    assert read_captions(tmp_path / 'out.jsonl')['images/6.png'] == 'a room'
    run('--by', 'file', '--from', tmp_path / 'out.jsonl')
    assert (root / 'captions.jsonl').read_bytes() == (tmp_path / 'out.jsonl').read_bytes()


def test_a_folder_of_images(root, tmp_path, capsys):
    tool.main(['--images', str(root / 'images'), '--by', 'empty'])
    out = capsys.readouterr().out
    assert list(read_captions(root / 'images' / 'captions.jsonl')) == [f'{index}.png' for index in range(7)]
    assert f'mmdiff2in1 pretrain --images {root}/images --captions {root}/images/captions.jsonl' in out


def test_the_file_that_the_config_names(run, tmp_path):
    option = f'stages.synthesis.captions={tmp_path}/named.jsonl'
    run('--by', 'classes', '--cfg-options', option)
    assert len(read_captions(tmp_path / 'named.jsonl')) == 7


def test_processes_share_by_environment(run, root, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '1')
    assert 'process 1: done; others are at work' in run('--by', 'classes')
    monkeypatch.setenv('RANK', '0')
    assert 'captions of 7 images' in run('--by', 'classes')
    assert list(read_captions(root / 'captions.jsonl')) == [f'images/{index}.png' for index in range(7)]
    assert sorted(path.name for path in root.iterdir()) == ['captions.jsonl', 'images', 'labels']


def test_a_read_only_folder(run, root, tmp_path):
    """Also for an administrator, whom the mark alone would not stop."""
    root.chmod(0o555)
    try:
        with pytest.raises(SystemExit, match='is read-only; name another place for the captions with --out FILE'):
            run('--by', 'classes')
    finally:
        root.chmod(0o755)
    assert not (root / 'captions.jsonl').exists()


def test_a_model_that_is_not_there_is_found_first(run, root, tmp_path):
    (root / 'images' / '0.png').write_bytes(b'no image')
    with pytest.raises(SystemExit, match='expected the folder of a captioning model'):
        run('--by', 'blip2', '--captioner', tmp_path / 'none')


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--by', 'empty'], 'either a CONFIG or --images FOLDER'),
        (['x.py', '--images', 'y', '--by', 'empty'], 'either a CONFIG or --images FOLDER'),
        (['--images', 'y', '--by', 'classes'], 'it needs a CONFIG, not --images'),
        (['x.py', '--by', 'blip2'], '--by blip2 needs --captioner FOLDER'),
        (['x.py', '--by', 'file'], '--by file needs --from PATH'),
        (['x.py', '--by', 'classes', '--prompt', 'a'], '--prompt belongs to --by blip2, found --by classes'),
        (['x.py', '--by', 'empty', '--from', 'a'], '--from belongs to --by file, found --by empty'),
        (['x.py', '--by', 'empty', '--batch-size', '0'], '--batch-size is 0, expected at least 1'),
    ],
)
def test_wrong_flags(flags, message, capsys):
    with pytest.raises(SystemExit):
        tool.main(flags)
    assert message in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        tool.main(['--help'])
    out = capsys.readouterr().out
    for words in ('--by classes', '--dry-run', 'hf download', 'torchrun', 'stages.synthesis.captions', '--redo'):
        assert words in out


def test_lines_are_what_creation_reads(run, root):
    run('--by', 'classes')
    first = (root / 'captions.jsonl').read_text().splitlines()[0]
    assert json.loads(first) == {'image': 'images/0.png', 'caption': 'a photo of floor and wall'}
