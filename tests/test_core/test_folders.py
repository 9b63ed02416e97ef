"""One walk through folders: what mmseg lists, without its traps, and everybody sees the same files."""

import os
import unicodedata

import numpy as np
from mmengine import fileio
from mmseg.datasets import BaseSegDataset
from PIL import Image

from mmdiff2in1.captions.captioning import ImageSet
from mmdiff2in1.captions.sources import FileCaptions
from mmdiff2in1.checks.files import count_images, file_problems
from mmdiff2in1.core.folders import files_below, images_below, is_hidden, no_files
from mmdiff2in1.datasets import DenseMapDataset
from mmdiff2in1.datasets.splits import image_names, names_of_folder
from mmdiff2in1.inference.image_files import read_images
from mmdiff2in1.pretraining.image_folder import ImageCaptionFolder
from mmdiff2in1.synthesis.unlabelled import image_files
from mmdiff2in1.training.identity import weights_mark

NAMES = ['a [1].png', 'a.png', 'b/c.png', 'b/linked.png', 'city/d.png', unicodedata.normalize('NFD', 'Tür é.png')]


def write(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path, format='png')


def folder_of(tmp_path):
    """A folder with a linked folder, a linked file, a link that leads nowhere, one that leads back, and hidden ones."""
    images = tmp_path / 'images'
    for number, name in enumerate(('a [1].png', 'a.png', 'b/c.png', NAMES[-1])):
        write(images / name, number)
    write(tmp_path / 'elsewhere' / 'd.png', 9)
    (images / 'city').symlink_to(tmp_path / 'elsewhere')
    (images / 'b' / 'linked.png').symlink_to(tmp_path / 'elsewhere' / 'd.png')
    (images / 'gone.png').symlink_to(tmp_path / 'nothing.png')
    (images / '._a.png').write_bytes(b'\0\5\x16\7Mac OS X')
    return images


def test_it_lists_what_mmseg_lists(tmp_path):
    images = folder_of(tmp_path)
    assert files_below(images, '.png') == sorted(NAMES)
    assert sorted(fileio.list_dir_or_file(images, list_dir=False, suffix='.png', recursive=True)) == sorted(NAMES)
    assert files_below(images / 'b', ('.PNG', 'c.png')) == ['c.png']


def test_links_that_lead_back_and_hidden_folders_end_it(tmp_path):
    images = folder_of(tmp_path)
    (images / 'b' / 'back').symlink_to(images)
    (tmp_path / 'elsewhere' / 'across').symlink_to(images / 'b')
    write(images / '.ipynb_checkpoints' / 'a.png')
    # Two ways to one folder are two names, as for mmseg; only what leads back to itself ends.
    across = ['city/across/c.png', 'city/across/linked.png']
    assert files_below(images, '.png') == sorted([*NAMES, *across])
    assert is_hidden('.a/b') and is_hidden('a/._b.png') and not is_hidden('../a/b.c')


def test_capital_letters_are_images_and_data_sets_say_their_own(tmp_path):
    for name in ('a.TIF', 'b.JPEG', 'c.txt', 'd.webp'):
        write(tmp_path / name)
    assert images_below(tmp_path) == ['a.TIF', 'b.JPEG', 'd.webp']
    assert files_below(tmp_path, '.tif') == []


def test_everybody_sees_the_same_images(tmp_path):
    images, names = folder_of(tmp_path), sorted(NAMES)
    assert ImageCaptionFolder(images, (8, 8)).names == names
    assert ImageSet.of_folder(images).paths == [f'{images}/{name}' for name in names]
    assert image_names(images, '.png') == sorted(name.removesuffix('.png') for name in names)
    assert names_of_folder(images) == (image_names(images, '.png'), '.png')
    assert [picture.path for picture in read_images(images)] == [f'{images}/{name}' for name in names]
    assert image_files(str(images)) == [f'{images}/{name}' for name in names]
    dataset = DenseMapDataset(data_prefix=dict(img_path=str(images)), pipeline=[])
    assert sorted(os.path.relpath(info['img_path'], images) for info in dataset) == names
    assert count_images(dataset) == (6, 6)
    for name in names:
        (images / name).with_suffix('.txt').write_text(f'of {name}')
    assert FileCaptions(images)([f'{images}/{name}' for name in names]) == [f'of {name}' for name in names]


def test_patterns_take_brackets_of_names_as_they_are(tmp_path):
    for name in ('shots [1]/a.png', 'shots [1]/b.png', 'shots 1/c.png'):
        write(tmp_path / name)
    assert image_files(str(tmp_path / 'shots [1]/*.png')) == [f'{tmp_path}/shots [1]/{name}.png' for name in 'ab']
    assert image_files(str(tmp_path / 'shots 1/[abc].png')) == [f'{tmp_path}/shots 1/c.png']


def test_linked_weights_count(tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'model.safetensors').write_bytes(b'one')
    weights = tmp_path / 'weights'
    weights.mkdir()
    (weights / 'model_index.json').write_text('{}')
    (weights / 'unet').symlink_to(tmp_path / 'elsewhere')
    before = weights_mark(weights)
    (tmp_path / 'elsewhere' / 'model.safetensors').write_bytes(b'two')
    assert weights_mark(weights) != before


def test_hidden_folders_that_mmseg_trains_on_are_named(tmp_path):
    for part in ('images', 'labels'):
        for name in ('a.png', '.ipynb_checkpoints/a-checkpoint.png'):
            write(tmp_path / part / name)
    prefix = dict(img_path=str(tmp_path / 'images'), seg_map_path=str(tmp_path / 'labels'))
    dataset = BaseSegDataset(data_prefix=prefix, img_suffix='.png', pipeline=[], metainfo=dict(classes=('a',)))
    problems = file_problems(dataset, [dataset.get_data_info(index) for index in range(len(dataset))])
    assert len(dataset) == 2
    (problem,) = [each for each in problems if each.check == 'hidden']
    assert problem.found.startswith('1 images in hidden folders') and '.ipynb_checkpoints/a-check' in problem.found
    # Of this package's sets, none is trained on.
    assert len(DenseMapDataset(data_prefix=prefix, pipeline=[])) == 1


def test_what_is_called_as_a_file_and_is_none(tmp_path):
    for name in ('a.png', 'c.png/inside.png', 'd/e.png'):
        write(tmp_path / name)
    (tmp_path / 'd' / 'gone.png').symlink_to(tmp_path / 'moved.png')
    (tmp_path / 'circle.png').symlink_to(tmp_path / 'circle.png')
    (tmp_path / 'linked.png').symlink_to(tmp_path / 'a.png')
    assert files_below(tmp_path, '.png') == ['a.png', 'c.png/inside.png', 'd/e.png', 'linked.png']
    assert no_files(tmp_path, '.png') == ['c.png', 'circle.png', 'd/gone.png']
