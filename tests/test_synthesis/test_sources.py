"""The images and the label files of data sets as users configure them."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.dataset_images import list_images, source_name
from mmdiff2in1.synthesis import label_files, real_dataset_cfg
from mmdiff2in1.synthesis.sources import build_real_dataset


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def root(tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder / 'images').mkdir(parents=True)
        for name in ('1.jpg', '0.jpg'):
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / folder / 'images' / name)
    return tmp_path


def base(root, folder='a', **options):
    prefix = dict(img_path='images', seg_map_path='labels')
    return dict(type='BaseSegDataset', data_root=str(root / folder), data_prefix=prefix, pipeline=[]) | options


def config(dataset):
    return Config(dict(train_dataloader=dict(dataset=dataset)))


def test_the_wrapper_is_taken_off(root):
    inner = base(root)
    wrapped = dict(type='SyntheticSampleDataset', dataset=inner, store=None)
    assert real_dataset_cfg(config(inner)) == inner
    assert real_dataset_cfg(config(wrapped)) == inner
    assert real_dataset_cfg(config(wrapped | dict(type='mmdiff2in1.datasets.SyntheticSampleDataset'))) == inner
    with pytest.raises(ValueError, match='without dataset='):
        real_dataset_cfg(config(dict(type='SyntheticSampleDataset', store=None)))
    with pytest.raises(ValueError, match=r'no train_dataloader\.dataset'):
        real_dataset_cfg(Config(dict(val_dataloader=dict())))


def test_images_of_one_data_set(root):
    data_root, paths = list_images(build_real_dataset(config(base(root))))
    assert data_root == str(root / 'a')
    assert [source_name(path, data_root) for path in paths] == ['images/0.jpg', 'images/1.jpg']


def test_images_of_repeated_and_concatenated_data_sets(root):
    repeated = dict(type='RepeatDataset', times=3, dataset=base(root))
    assert len(list_images(build_real_dataset(config(repeated)))[1]) == 2
    both = dict(
        type='ConcatDataset', datasets=[base(root), dict(type='RepeatDataset', times=2, dataset=base(root, 'b'))]
    )
    data_root, paths = list_images(build_real_dataset(config(both)))
    assert [source_name(path, data_root) for path in paths] == [
        'a/images/0.jpg', 'a/images/1.jpg', 'b/images/0.jpg', 'b/images/1.jpg',
    ]  # fmt: skip


def test_no_images(root):
    (root / 'a' / 'none').mkdir()
    empty = base(root, data_prefix=dict(img_path='none', seg_map_path='labels'))
    with pytest.raises(ValueError, match='BaseSegDataset of the config holds no images'):
        list_images(build_real_dataset(config(empty)))


@pytest.mark.parametrize(
    ('path', 'data_root', 'name'),
    [
        ('data/set/images/0.png', 'data/set', 'images/0.png'),
        ('data/set/images/0.png', 'data/set/', 'images/0.png'),
        ('data/set/./images/0.png', 'data/set', 'images/0.png'),
        ('/elsewhere/0.png', '/data/set', '/elsewhere/0.png'),
        ('images/0.png', None, 'images/0.png'),
    ],
)
def test_source_names(path, data_root, name):
    assert source_name(path, data_root) == name


def test_label_files_by_image_and_key(root):
    """Only labels of maps, only those that there are; the same image in two sets has those of both."""
    dense = dict(
        type='DenseMapDataset', data_root=str(root / 'a'), img_suffix='.jpg', pipeline=[],
        data_prefix=dict(img_path='images', depth_map_path='depth', normal_map_path='normal'), mask_suffix='_mask.png',
    )  # fmt: skip
    (root / 'a/depth').mkdir()
    (root / 'a/normal').mkdir()
    for name in ('0', '1'):
        for file in (f'depth/{name}.png', f'normal/{name}.png', f'depth/{name}_mask.png'):
            (root / 'a' / file).touch()
    both = dict(
        type='ConcatDataset', datasets=[base(root), dict(type='RepeatDataset', times=2, dataset=dense)],
        ignore_keys=['classes', 'palette'],
    )  # fmt: skip
    a = str(root / 'a')
    assert label_files(build_real_dataset(config(both))) == {
        f'{a}/images/{name}.jpg': dict(
            seg_map_path=f'{a}/labels/{name}.png',
            depth_map_path=f'{a}/depth/{name}.png',
            normal_map_path=f'{a}/normal/{name}.png',
        )
        for name in ('0', '1')
    }
    unlabelled = base(root, 'b', data_prefix=dict(img_path='images'))
    found = label_files(build_real_dataset(config(unlabelled)))
    assert set(found) == {str(root / f'b/images/{name}.jpg') for name in ('0', '1')}


def test_the_first_of_two_sets_names_a_label(root):
    """The order of the config decides, as it does for the images."""
    other = base(root, data_prefix=dict(img_path='images', seg_map_path='other'))
    for sets, folder in (([base(root), other], 'labels'), ([other, base(root)], 'other')):
        found = label_files(build_real_dataset(config(dict(type='ConcatDataset', datasets=sets))))
        assert found[str(root / 'a/images/0.jpg')] == dict(seg_map_path=str(root / f'a/{folder}/0.png'))
