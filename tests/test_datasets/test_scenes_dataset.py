"""Scenes as an mmseg dataset: classes, labels, the seeded draw of labelled images, and what bad folders get."""

import shutil

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS

from mmdiff2in1.datasets.scenes import CLASSES, PALETTE, make_scenes
from mmdiff2in1.datasets.scenes_dataset import ScenesDataset


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp('set')
    return make_scenes(out, {'unlabelled': 2, 'train': 12}, size=16, workers=1, progress=False) / 'train'


def names(dataset) -> list[str]:
    return [dataset.get_data_info(i)['img_path'][-10:] for i in range(len(dataset))]


def test_samples_and_labels(root):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(dict(type='ScenesDataset', data_root=str(root), pipeline=pipeline))
    assert dataset.metainfo['classes'] == CLASSES
    assert [tuple(colour) for colour in dataset.metainfo['palette']] == list(PALETTE)
    assert names(dataset) == [f'{i:06d}.png' for i in range(12)]
    sample = dataset[7]
    image = cv2.imread(str(root / 'images/000007.png'))
    label = cv2.imread(str(root / 'semantic/000007.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(sample['inputs'].numpy().transpose(1, 2, 0), image)
    np.testing.assert_array_equal(sample['data_samples'].gt_sem_seg.data[0].numpy(), label)


def test_draws_are_seeded_nested_and_without_replacement(root):
    draws = {n: names(ScenesDataset(data_root=str(root), num_labelled=n, subset_seed=3)) for n in (2, 5, 12)}
    assert [len(set(draw)) for draw in draws.values()] == [2, 5, 12]
    assert set(draws[2]) < set(draws[5]) < set(draws[12])
    assert draws[5] == sorted(draws[5])
    assert draws[5] == names(ScenesDataset(data_root=str(root), num_labelled=5, subset_seed=3))
    others = [names(ScenesDataset(data_root=str(root), num_labelled=5, subset_seed=seed)) for seed in range(4, 8)]
    assert any(other != draws[5] for other in others)
    expected = sorted(np.random.default_rng(3).permutation(12)[:5])
    assert draws[5] == [f'{i:06d}.png' for i in expected]


@pytest.mark.parametrize('count', [0, 13])
def test_impossible_draws_are_refused(root, count):
    with pytest.raises(ValueError, match=rf'num_labelled={count}: expected 1 to 12'):
        ScenesDataset(data_root=str(root), num_labelled=count)


def test_normals_of_the_first_version_are_refused(root, tmp_path):
    shutil.copytree(root.parent, tmp_path / 'old')
    meta = tmp_path / 'old' / 'meta.json'
    meta.write_text(meta.read_text().replace('"version": 2', '"version": 1'))
    prefix = dict(img_path='train/images', normal_map_path='train/normal')
    with pytest.raises(ValueError, match='found version 1, whose normals have x to the right'):
        ScenesDataset(data_root=str(tmp_path / 'old'), data_prefix=prefix)
    assert len(ScenesDataset(data_root=str(root.parent), data_prefix=prefix)) == 12
    plain = dict(img_path='train/images', seg_map_path='train/semantic')
    assert len(ScenesDataset(data_root=str(tmp_path / 'old'), data_prefix=plain)) == 12


def test_other_labels_on_request(root):
    prefix = dict(img_path='images', depth_map_path='depth', normal_map_path='normal')
    info = ScenesDataset(data_root=str(root), data_prefix=prefix).get_data_info(4)
    assert info['depth_map_path'] == str(root / 'depth/000004.png')
    assert info['normal_map_path'] == str(root / 'normal/000004.png')
    assert 'seg_map_path' not in info
    assert 'depth_map_path' not in ScenesDataset(data_root=str(root)).get_data_info(4)


def test_unlabelled_images_need_no_labels(root):
    folder = root.parent / 'unlabelled'
    assert len(ScenesDataset(data_root=str(folder), data_prefix=dict(img_path='images'))) == 2
    with pytest.raises(FileNotFoundError, match='seg_map_path of a sample; 2 of 2 are not there'):
        ScenesDataset(data_root=str(folder))


def test_bad_folders_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere.images: found no such folder.*mmdiff2in1 scenes --out'):
        ScenesDataset(data_root=str(tmp_path / 'nowhere'))
    (tmp_path / 'images').mkdir()
    with pytest.raises(FileNotFoundError, match=r'found no images, expected \*\.png.*mmdiff2in1 scenes'):
        ScenesDataset(data_root=str(tmp_path))
    shutil.copytree(root, tmp_path / 'copy')
    (tmp_path / 'copy/semantic/000003.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'semantic.000003.png: found no such file, .*; 1 of 12 are not there'):
        ScenesDataset(data_root=str(tmp_path / 'copy'))
