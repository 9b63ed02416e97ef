"""Source images: upright, at the right size, and a broken one is found before the work starts."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff2in1.core.images import check_sources, from_model, image_size, load_image, resize_image, to_model


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_load_keeps_pixels_and_averages_when_it_shrinks(tmp_path):
    array = picture(8, 12)
    Image.fromarray(array).save(tmp_path / 'a.png')
    assert image_size(tmp_path / 'a.png') == (8, 12)
    assert np.array_equal(load_image(tmp_path / 'a.png', (8, 12)), array)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    # Antialiased: a fine pattern becomes grey. Plain bicubic sampling would give black or white.
    assert abs(int(resize_image(stripes, (16, 16))[8, 8, 0]) - 128) <= 2


def test_rotated_photographs_stand_upright(tmp_path):
    array = picture(8, 12)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.fromarray(array).save(tmp_path / 'a.png', exif=exif)
    assert image_size(tmp_path / 'a.png') == (12, 8)
    assert np.array_equal(load_image(tmp_path / 'a.png', (12, 8)), np.rot90(array, -1))


def test_grey_and_transparent_images_become_rgb(tmp_path):
    Image.new('L', (4, 4), 77).save(tmp_path / 'grey.png')
    Image.new('RGBA', (4, 4), (1, 2, 3, 9)).save(tmp_path / 'alpha.png')
    assert load_image(tmp_path / 'grey.png', (4, 4))[0, 0].tolist() == [77, 77, 77]
    assert load_image(tmp_path / 'alpha.png', (4, 4))[0, 0].tolist() == [1, 2, 3]


def test_way_to_the_model_and_back():
    every_level = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = to_model(list(every_level))
    assert (tensor.shape, tensor.min(), tensor.max()) == ((1, 3, 16, 16), -1, 1)
    assert np.array_equal(from_model(tensor), every_level)
    assert from_model(torch.full((1, 3, 1, 1), 1.5)).item(0) == 255
    with pytest.raises(FloatingPointError, match='dtype float32 or bfloat16'):
        from_model(torch.full((1, 3, 1, 1), float('nan')))


def test_truncated_files_of_both_formats_are_named(tmp_path):
    for name in ('png', 'jpeg'):
        whole = io.BytesIO()
        Image.fromarray(picture(64, 64)).save(whole, name)
        (tmp_path / f'whole.{name}').write_bytes(whole.getvalue())
        (tmp_path / f'cut.{name}').write_bytes(whole.getvalue()[:-600])
        check_sources([tmp_path / f'whole.{name}'])
        with pytest.raises(ValueError, match=rf'1 source images cannot be read.*\n.*cut\.{name}'):
            check_sources([tmp_path / f'whole.{name}', tmp_path / f'cut.{name}'])


def test_missing_and_foreign_files_are_named(tmp_path):
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(FileNotFoundError, match=r'12 source images(.|\n)*0\.png: missing(.|\n)*and 2 more'):
        check_sources(tmp_path / f'{index}.png' for index in range(12))
    with pytest.raises(ValueError, match=r'none\.png: missing\n.*text\.png: found something that is no image'):
        check_sources([tmp_path / 'text.png', tmp_path / 'none.png'])
    with pytest.raises(ValueError, match=r'text\.png: found something that is no image'):
        image_size(tmp_path / 'text.png')
    with pytest.raises(FileNotFoundError, match=r'none\.png does not exist'):
        image_size(tmp_path / 'none.png')


def test_sixteen_bits_are_cut_to_eight(tmp_path):
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / 'deep.png')
    assert np.array_equal(load_image(tmp_path / 'deep.png', (16, 16))[..., 1], levels >> 8)
