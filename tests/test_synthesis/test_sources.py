"""The images and the raw "ignore" value of data sets as users configure them."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmdiff2in1.core.dataset_images import list_images, source_name
from mmdiff2in1.synthesis import raw_ignore_value, real_dataset_cfg
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


@pytest.mark.parametrize(
    ('dataset', 'value'),
    [
        (dict(), 255),
        (dict(ignore_index=11), 11),  # CamVid
        (dict(reduce_zero_label=True), 0),
        (dict(reduce_zero_label=True, ignore_index=255), 0),
        (dict(type='ADE20KDataset'), 0),  # reduces by default, which its config does not say
        (dict(type='CityscapesDataset'), 255),
        (dict(type='NYUDataset', data_prefix=dict(img_path='images', depth_map_path='depth')), 0),
    ],
)
def test_raw_ignore_value_needs_no_files(tmp_path, dataset, value):
    cfg = base(tmp_path / 'nowhere') | dataset
    assert raw_ignore_value(cfg) == value
    assert raw_ignore_value(dict(type='RepeatDataset', times=2, dataset=cfg)) == value
    assert raw_ignore_value(dict(type='ConcatDataset', datasets=[cfg, cfg])) == value


def test_raw_ignore_value_of_a_built_data_set(root):
    assert raw_ignore_value(build_real_dataset(config(base(root, ignore_index=11)))) == 11


def test_data_sets_that_disagree(root):
    both = dict(type='ConcatDataset', datasets=[base(root), base(root, 'b', ignore_index=11)])
    with pytest.raises(ValueError, match=r'different raw values \[11, 255\]'):
        raw_ignore_value(both)
