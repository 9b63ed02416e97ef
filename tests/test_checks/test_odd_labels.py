"""Label files of odd modes and in lossy containers: read as training reads them, or refused by name. K: 3 classes."""

import cv2
import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmdiff2in1.checks.labels import LabelRules
from mmdiff2in1.checks.loading import class_backend, loaded_labels
from mmdiff2in1.checks.pair import inspect_pair
from mmdiff2in1.core.label_files import lossy_container, read_classes
from mmdiff2in1.datasets.transforms import LoadClassAnnotation
from mmdiff2in1.pretraining.image_folder import ImageCaptionFolder
from mmdiff2in1.pretraining.label_folder import LabelFolder
from mmdiff2in1.tasks import Depth, SemanticSegmentation, SurfaceNormal

H, W = 48, 64
ROWS, COLUMNS = np.mgrid[:H, :W]
LABEL = ((ROWS - 20) ** 2 + (COLUMNS - 20) ** 2 < 150).astype(np.uint8)
LABEL[(ROWS - 24) ** 2 + (COLUMNS - 46) ** 2 < 120] = 2
RULES = LabelRules(3)


@pytest.fixture
def pair(tmp_path):
    """A function: label file → data info with an image beside."""
    Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(tmp_path / 'image.png')

    def info(name, key='seg_map_path', **more):
        paths = dict(img_path=str(tmp_path / 'image.png'), **{key: str(tmp_path / name)})
        return dict(paths, seg_fields=[], reduce_zero_label=False, label_map=None, ori_shape=(H, W), **more)

    return info


def palette():
    image = Image.fromarray(LABEL, 'P')
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    return image


def errors(info, rules=RULES, tasks=None):
    problems = inspect_pair(info, rules, tasks or {}).problems
    return [problem for problem in problems if problem.severity == 'error']


@pytest.mark.parametrize(
    ('name', 'label', 'expected'),
    [
        ('grey.png', Image.fromarray(LABEL), LABEL),
        ('palette.png', palette(), LABEL),
        ('palette.bmp', palette(), LABEL),
        ('grey.tif', Image.fromarray(LABEL), LABEL),
        ('bits.png', Image.fromarray(LABEL > 0), LABEL > 0),
        ('bits.tif', Image.fromarray(LABEL > 0), LABEL > 0),
        ('deep.png', Image.fromarray(LABEL.astype(np.uint16)), LABEL),
        ('deep.tif', Image.fromarray(LABEL.astype(np.uint16)), LABEL),
        ('long.tif', Image.fromarray(LABEL.astype(np.int32)), LABEL),
        ('grey.webp', None, None),
        ('large.png', Image.fromarray(LABEL.astype(np.uint16) * 1000), None),
        ('colour.png', palette().convert('RGB'), None),
        ('alpha.png', palette().convert('RGBA'), None),
        ('grey-alpha.png', Image.fromarray(LABEL).convert('LA'), None),
        ('float.tif', Image.fromarray(LABEL.astype(np.float32)), None),
        ('grey.jpg', Image.fromarray(LABEL), None),
    ],
)
def test_the_check_accepts_exactly_what_it_reads_as_training_does(tmp_path, pair, name, label, expected):
    (label or Image.fromarray(LABEL)).save(tmp_path / name)
    found = errors(pair(name))
    if expected is None:
        assert len(found) == 1 and found[0].file == str(tmp_path / name)
        return
    assert found == []
    for loader in (LoadAnnotations(), LoadClassAnnotation()):
        assert np.array_equal(loader(pair(name))['gt_seg_map'], expected)
    assert np.array_equal(read_classes(str(tmp_path / name)), expected)


def test_the_decoder_is_that_of_the_loader(tmp_path, pair):
    """OpenCV makes colours of a palette: a training that reads so cannot read these files."""
    palette().save(tmp_path / 'a.png')
    step = dict(type='LoadAnnotations', imdecode_backend='cv2')
    assert LoadAnnotations(imdecode_backend='cv2')(pair('a.png'))['gt_seg_map'].ndim == 3
    backends = [class_backend(loaded_labels([each])) for each in (step, dict(type='LoadAnnotations'))]
    assert backends == ['cv2', 'pillow']
    (problem,) = errors(pair('a.png'), LabelRules(3, backend='cv2'))
    assert (problem.check, problem.found) == ('label-channels', '3 channels with 3 colours')


@pytest.mark.parametrize('K', [3, 8])
@pytest.mark.parametrize('name', ['label.jpg', 'label.jpeg', 'called.png', 'label.webp', 'label.tif'])
def test_lossy_labels_are_named(tmp_path, pair, K, name):
    kind = dict(webp='WEBP', tif='TIFF').get(name.split('.')[1], 'JPEG')
    options = dict(compression='jpeg') if kind == 'TIFF' else dict(quality=75)
    Image.fromarray(LABEL).save(tmp_path / name, kind, **options)
    (problem,) = errors(pair(name), LabelRules(K))
    assert (problem.check, problem.file) == ('lossy-label', str(tmp_path / name))
    assert 'JPEG' in problem.found and 'PNG' in problem.next_step


def test_lossy_maps_of_other_tasks_and_masks_are_named(tmp_path, pair):
    normal = np.zeros((H, W, 3), np.uint8)
    normal[..., 2] = 255
    Image.fromarray(normal).save(tmp_path / 'normal.jpg')
    Image.fromarray(LABEL).save(tmp_path / 'depth.jpg')
    for task in (SurfaceNormal(), Depth()):
        (problem,) = errors(pair(f'{task.name}.jpg', task.path_key), None, {task.name: task})
        assert problem.check == 'lossy-label' and 'JPEG' in problem.found
    depth = Depth()
    Image.fromarray((LABEL.astype(np.uint16) + 1) * 1000).save(tmp_path / 'depth.png')
    info = pair('depth.png', depth.path_key, valid_mask_path=str(tmp_path / 'depth.jpg'))
    (problem,) = errors(info, None, {depth.name: depth})
    assert problem.file.endswith('depth.jpg') and problem.check == 'lossy-label'


def test_lossless_containers_are_not_called_lossy(tmp_path):
    image = Image.fromarray(LABEL)
    for name, options in (
        ('a.png', {}),
        ('a.webp', dict(lossless=True, exact=True)),
        ('a.tif', dict(compression='tiff_lzw')),
        ('a.bmp', {}),
    ):
        image.save(tmp_path / name, **options)
        assert lossy_container(str(tmp_path / name)) is None, name
    (tmp_path / 'b.tif').write_bytes(cv2.imencode('.tif', LABEL.astype(np.float32))[1].tobytes())
    (tmp_path / 'c.webp').write_bytes(b'RIFF\4\0\0\0WEBPVP8')
    assert [lossy_container(str(tmp_path / name)) for name in ('b.tif', 'c.webp', 'none.png')] == [None] * 3
    with_alpha = Image.merge('RGBA', [image, image, image, image])
    with_alpha.save(tmp_path / 'alpha.webp', quality=50)
    assert 'JPEG' in lossy_container(str(tmp_path / 'alpha.webp'))


def test_pretraining_reads_palettes_as_training_does(tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'labels').mkdir()
    Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(tmp_path / 'images' / 'a.png')
    palette().save(tmp_path / 'labels' / 'a.png')
    images = ImageCaptionFolder(tmp_path / 'images', (H, W))
    folder = LabelFolder(tmp_path / 'labels', images, SemanticSegmentation(3))
    assert np.array_equal(folder.maps[0], LABEL)
