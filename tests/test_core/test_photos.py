"""Masks that lie beside images are no images."""

import numpy as np
import pytest
from PIL import Image

from mmdiff2in1.captions.captioning import ImageSet
from mmdiff2in1.core import photos
from mmdiff2in1.core.photos import masks_beside, photos_below
from mmdiff2in1.inference.image_files import read_images
from mmdiff2in1.pretraining.image_folder import ImageCaptionFolder
from mmdiff2in1.synthesis.unlabelled import image_files
from mmdiff2in1.training.own_data import study


@pytest.mark.parametrize(
    ('names', 'masks'),
    [
        (['a.jpg', 'a.png', 'b.jpg', 'c.png'], {'a.png': 'a.jpg'}),
        (['d/a.jpg', 'a.png', 'd/a_mask.png'], {'d/a_mask.png': 'd/a.jpg'}),
        (['a.png', 'a_MASK.png', 'b_mask.png', '_mask.png'], {'a_MASK.png': 'a.png'}),
        (['a.JPG', 'a.PNG', 'a_labelTrainIds.png'], {'a.PNG': 'a.JPG', 'a_labelTrainIds.png': 'a.JPG'}),
        (['a.png', 'a.tif', 'a.webp'], {}),
        (['room.jpg', 'room_2.jpg', 'room-label.png'], {'room-label.png': 'room.jpg'}),
    ],
)
def test_masks_beside(names, masks):
    assert masks_beside(names) == masks and masks_beside(names[::-1]) == masks


@pytest.fixture
def folder(tmp_path):
    """Six pairs and one image alone."""
    rng = np.random.default_rng(0)
    for index in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 64, 3), dtype=np.uint8)).save(tmp_path / f'{index}.jpg')
        Image.fromarray(rng.integers(0, 2, (40, 64), dtype=np.uint8)).save(tmp_path / f'{index}_mask.png')
    Image.new('RGB', (64, 40)).save(tmp_path / 'x.jpg')
    return tmp_path


def test_all_who_read_a_folder_leave_them_out(folder, monkeypatch):
    photos._told.clear()
    lines: list[str] = []
    monkeypatch.setattr(photos, 'print_log', lambda text, *_: lines.append(text))
    names = [*(f'{index}.jpg' for index in range(6)), 'x.jpg']
    assert photos_below(folder) == names
    said = f'{folder}: 7 images; 6 files beside them have the name of one and are left out, as its masks: 0_mask.png, '
    assert [line[: len(said)] for line in lines] == [said]
    paths = [(folder / name).as_posix() for name in names]
    assert ImageCaptionFolder(folder, (32, 32)).names == names
    assert ImageSet.of_folder(folder).paths == paths
    assert [picture.path for picture in read_images(folder)] == paths
    assert image_files(str(folder)) == paths
    assert [picture.path for picture in read_images(folder / '0_mask.png')] == [(folder / '0_mask.png').as_posix()]
    assert len(lines) == 1  # said once


def test_pairs_in_one_folder(folder):
    found = study(folder, folder, ['floor', 'ball'])
    assert (found.image_suffix, found.mask_suffix, found.size) == ('.jpg', '_mask.png', (40, 64))
    assert sorted([*found.train, *found.val]) == [str(index) for index in range(6)]
    Image.new('L', (64, 40)).save(folder / 'x.png')
    with pytest.raises(ValueError, match='found 6 _mask.png, 1 .png; expected one mask beside each image'):
        study(folder, folder, ['floor', 'ball'])
