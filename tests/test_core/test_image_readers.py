"""Every reader of images sees what training sees, and refuses what training refuses."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from odd_images import DEEP, PICTURE, H, W, empty_png, readable, refused
from PIL import Image

import mmdiff2in1
from mmdiff2in1.captions.sources import ModelCaptions
from mmdiff2in1.checks.pair import inspect_pair
from mmdiff2in1.core.image_faults import UnreadableImageError
from mmdiff2in1.core.images import check_sources, image_size, load_image, read_image, stored_frame
from mmdiff2in1.inference.image_files import read_images
from mmdiff2in1.pretraining.image_folder import ImageCaptionFolder


@pytest.fixture(scope='module')
def readable_files(tmp_path_factory):
    return readable(tmp_path_factory.mktemp('readable'))


@pytest.fixture(scope='module')
def refused_files(tmp_path_factory):
    return refused(tmp_path_factory.mktemp('refused'))


def trained(path):
    return LoadImageFromFile()(dict(img_path=str(path)))['img'][..., ::-1]


def created(path):
    check_sources([path])
    return load_image(path, image_size(path))


def pretrained(path):
    return ImageCaptionFolder(path.parent, image_size(path)).images[0].numpy().transpose(1, 2, 0)


def captioned(path):
    seen = []
    source = ModelCaptions(lambda: lambda images: seen.extend(images) or [''])
    source.check([str(path)])
    source([str(path)])
    return seen[0]


def perceived(path):
    (alone,), (of_folder,) = read_images(path), read_images(path.parent)
    assert np.array_equal(alone.image, of_folder.image)
    return alone.image


READERS = (created, pretrained, captioned, perceived)


def digest_of(array):
    return hashlib.blake2b(repr(array.shape).encode() + array.tobytes(), digest_size=16).hexdigest()


def test_all_readers_see_what_training_sees(readable_files):
    assert len(readable_files) > 60
    for name, path in readable_files.items():
        expected = np.ascontiguousarray(trained(path))
        for reader in READERS:
            assert np.array_equal(reader(path), expected), (name, reader.__name__)
        facts = inspect_pair(dict(img_path=str(path)), None, {})
        assert (facts.digest, facts.size) == (digest_of(expected), expected.shape[:2]), name
        assert not [problem for problem in facts.problems if problem.severity == 'error'], name


def test_what_they_see(readable_files):
    files = readable_files
    for name in ('png-RGB', 'png-RGBA', 'tif-RGB', 'bmp-RGB', 'tif-lzw', 'brackets', 'decomposed', 'other-suffix'):
        assert np.array_equal(read_image(files[name]), PICTURE), name
    for name in ('png-grey16', 'tif-grey16'):
        assert np.array_equal(read_image(files[name]), np.dstack([DEEP >> 8] * 3)), name
    # What these containers hold upright, turned as the entry says.
    ways = (lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud)
    turned = (*ways, lambda a: a.swapaxes(0, 1), lambda a: np.rot90(a, -1), lambda a: np.rot90(a, 2).swapaxes(0, 1))
    for number, turn in enumerate((*turned, np.rot90), 1):
        for container in ('png', 'tif'):
            path = files[f'{container}-exif{number}']
            assert np.array_equal(read_image(path), turn(PICTURE)), (container, number)
            assert stored_frame(path) == ((H, W), number)
    assert stored_frame(files['jpg-xmp']) == ((H, W), 1)


def test_eight_bits_are_as_pillow_decodes_them(readable_files):
    """So nothing that was created or hashed before has changed."""
    for name in ('png-RGB', 'png-L', 'png-P', 'jpg-RGB', 'jpg-L', 'jpg-progressive', 'webp-RGB', 'webp-RGBA', 'tif-P'):
        with Image.open(readable_files[name]) as image:
            assert np.array_equal(read_image(readable_files[name]), np.asarray(image.convert('RGB'))), name


def test_all_readers_refuse_what_training_cannot_read(refused_files):
    for name, (path, found) in refused_files.items():
        with pytest.raises(Exception):  # noqa: B017  mmcv's, OpenCV's or numpy's
            trained(path)
        with pytest.raises(UnreadableImageError) as fault:
            read_image(path)
        assert fault.value.found.startswith(found), (name, fault.value.found)
        for reader in READERS:
            with pytest.raises(ValueError) as error:
                reader(path)
            assert str(fault.value) in str(error.value), (name, reader.__name__)
        (problem,) = inspect_pair(dict(img_path=str(path)), None, {}).problems
        assert (problem.check, problem.file) == ('unreadable', str(path))
        assert str(problem) == str(fault.value)


def test_a_file_that_is_not_there_is_named_by_all(tmp_path):
    for read in (read_image, image_size, lambda path: load_image(path, (4, 4)), read_images):
        with pytest.raises(FileNotFoundError, match=r'none\.png'):
            read(tmp_path / 'none.png')


def test_a_large_tile_is_read_as_training_reads_it(tmp_path):
    """196 megapixels: more than Pillow reads by itself, less than OpenCV's limit."""
    (tmp_path / 'tile.png').write_bytes(empty_png(14_000, 14_000))
    assert image_size(tmp_path / 'tile.png') == (14_000, 14_000)
    with Image.open(tmp_path / 'tile.png') as image:  # as mmseg's loader opens a label
        assert image.size == (14_000, 14_000)
    check_sources([tmp_path / 'tile.png'])


def test_pillow_images_are_seen_as_their_files_are(readable_files):
    for name in ('png-grey16', 'png-RGBA', 'png-P', 'jpg-exif6'):
        with Image.open(readable_files[name]) as image:
            assert np.array_equal(read_images(image)[0].image, read_image(readable_files[name])), name
    with pytest.raises(TypeError, match='mode F'):
        read_images(Image.new('F', (4, 4)))


def test_nobody_else_decodes_images_or_walks_folders():
    package = Path(mmdiff2in1.__file__).parent
    decoding = re.compile(r'Image\.open\(|\bimread\(|\bimdecode\(|\bimfrombytes\(')
    walking = re.compile(r'\brglob\(|os\.walk\(|\bscandir\(')
    found = {pattern: set() for pattern in (decoding, walking)}
    for file in package.rglob('*.py'):
        for pattern, names in found.items():
            if pattern.search(file.read_text()):
                names.add(file.relative_to(package).as_posix())
    assert found[decoding] == {'core/images.py', 'core/image_faults.py', 'core/label_files.py'}
    assert found[walking] == {'core/folders.py'}
