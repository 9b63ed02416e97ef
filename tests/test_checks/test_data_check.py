"""Labels that do not fit are found before the training starts, and the file is named."""

import re

import cv2
import numpy as np
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from mmdiff2in1.checks.check_datasets import check_datasets
from mmdiff2in1.checks.data_check import check_data, check_labels
from mmdiff2in1.datasets import CamVidDataset, ScenesDataset


@pytest.fixture
def pair(tmp_path):
    """Paths of one image and one label of 8 × 12 pixels, and the dataset that reads them."""
    init_default_scope('mmseg')
    for name, array in (('image', np.zeros((8, 12, 3), np.uint8)), ('label', np.full((8, 12), 3, np.uint8))):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / 'a.png'), array)
    prefix = dict(img_path='image', seg_map_path='label')
    return tmp_path, lambda kind=ScenesDataset, **kwargs: kind(data_root=str(tmp_path), data_prefix=prefix, **kwargs)


def test_good_labels_pass(pair):
    assert check_labels(pair[1](), 11, 'train') == 1


def test_label_of_another_size(pair):
    cv2.imwrite(str(pair[0] / 'label' / 'a.png'), np.zeros((8, 11), np.uint8))
    with pytest.raises(ValueError, match=r'label/a\.png: found 8×11 .*expected 8×12'):
        check_labels(pair[1](), 11, 'train')


@pytest.mark.parametrize(('value', 'fits'), [(10, True), (11, False), (254, False), (255, True)])
def test_label_values(pair, value, fits):
    cv2.imwrite(str(pair[0] / 'label' / 'a.png'), np.full((8, 12), value, np.uint8))
    if fits:
        assert check_labels(pair[1](), 11, 'train') == 1
        return
    with pytest.raises(ValueError, match=re.escape(f'[{value}]')):
        check_labels(pair[1](), 11, 'train')


def test_ignore_index_and_zero_label_reduction_count(pair):
    cv2.imwrite(str(pair[0] / 'label' / 'a.png'), np.full((8, 12), 11, np.uint8))
    assert check_labels(pair[1](CamVidDataset), 11, 'train') == 1
    with pytest.raises(ValueError, match=r'\[10\]'):
        check_labels(pair[1](reduce_zero_label=True), 10, 'train')


@pytest.mark.parametrize('name', ['image', 'label'])
def test_truncated_file(pair, name):
    file = pair[0] / name / 'a.png'
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf'{name}/a\.png: found .*expected a whole image file'):
        check_labels(pair[1](), 11, 'train')


def test_missing_label_file(pair):
    dataset = pair[1]()
    info = dataset.get_data_info(0)
    (pair[0] / 'label' / 'a.png').unlink()
    dataset.get_data_info = lambda index: info
    with pytest.raises(ValueError, match=r'label/a\.png: found no such file; expected a label'):
        check_labels(dataset, 11, 'train')


def data_config(root, **dataset):
    """mmseg's own kind of config, without self-improving."""
    prefix = dict(img_path='image', seg_map_path='label')
    dataset = dict(type='CamVidDataset', data_root=str(root), data_prefix=prefix) | dataset
    head = dict(decode_head=dict(num_classes=11, ignore_index=11))
    return ConfigDict(model=head, train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=dataset)))


def test_sets_of_a_plain_config_inside_wrappers_are_read(pair):
    check_data(data_config(pair[0]))
    cv2.imwrite(str(pair[0] / 'label' / 'a.png'), np.full((8, 12), 12, np.uint8))
    with pytest.raises(ValueError, match=r'train: .*label values \[12\]; expected 0 … 10 or 11'):
        check_data(data_config(pair[0]))


@pytest.mark.parametrize('names', [('pond',), ('background', 'pond')])
def test_one_class_of_mmseg_is_two_values(pair, names):
    """`num_classes=1`: a sigmoid tells the foreground, 1, from the background, 0."""
    cfg = data_config(pair[0], type='BaseSegDataset', img_suffix='.png', metainfo=dict(classes=names))
    cfg.model = dict(decode_head=dict(num_classes=1))
    cv2.imwrite(str(pair[0] / 'label' / 'a.png'), np.arange(96).reshape(8, 12).astype(np.uint8) % 2)
    check_data(cfg)
    report = check_datasets(cfg, workers=1, progress=False)[0]
    assert not report.problems('error') and list(report.parts[0].shares.values()) == [0.5, 0.5]
    told = [problem.found for _, problem in report.problems('warning') if problem.check == 'num-classes']
    assert told == ['one class'] * (len(names) == 1)
    cv2.imwrite(str(pair[0] / 'label' / 'a.png'), np.full((8, 12), 2, np.uint8))
    with pytest.raises(ValueError, match=r'label values \[2\]; expected 0 … 1 or 255'):
        check_data(cfg)
    found = check_datasets(cfg, workers=1, progress=False)[0].problems('error')
    assert [problem.check for _, problem in found] == ['label-values']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(data_root='no/such'), r'train: no/such/image: found nothing there; .* is the nearest folder.*data_root'),
        (dict(ann_file='20pct-seed1.txt'), r'make_splits\.py .*image --percent 20 --seed 1 --suffix \.png --out'),
        (dict(ann_file='mine.txt'), r'mine\.txt: found nothing there.*expected a split file.*make_splits\.py'),
        (dict(img_suffix='.jpg'), r'image: found no images that end in \.jpg; expected at least one'),
        (dict(type='ScenesDataset', data_root='no'), r'mmdiff2in1 scenes --out no'),
    ],
)
def test_missing_data_name_the_next_step(pair, change, message):
    with pytest.raises(FileNotFoundError, match=message):
        check_data(data_config(pair[0], **change))


def test_a_key_of_the_inner_set_given_to_the_wrapper_is_told_with_its_place():
    dataset = dict(
        type='SyntheticSampleDataset', dataset=dict(type='ScenesDataset', pipeline=[]), data_root='elsewhere'
    )
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    with pytest.raises(ValueError, match=r"the key 'data_root'.*train_dataloader\.dataset\.dataset\.data_root"):
        check_data(cfg)


@pytest.mark.parametrize('kind', ['folder', 'link to nothing', 'link to itself'])
@pytest.mark.parametrize('mmseg', [False, True])
def test_an_image_that_is_no_file_is_not_passed_over(pair, kind, mmseg):
    """Else a set is one image smaller, and nobody sees it."""
    root, fake = pair[0], pair[0] / 'image' / 'b.png'
    if kind == 'folder':
        fake.mkdir()
    else:
        fake.symlink_to(fake if kind == 'link to itself' else root / 'moved.png')
    mmsegs = dict(type='BaseSegDataset', img_suffix='.png', seg_map_suffix='.png', ignore_index=11)
    with pytest.raises(ValueError, match=r'image/b\.png'):
        check_data(data_config(root, **(mmsegs if mmseg else {})))


@pytest.mark.parametrize('kind', ['BaseSegDataset', 'ScenesDataset'])
def test_a_list_that_is_a_folder(pair, kind):
    """mmseg would train on all that there is."""
    (pair[0] / 'train.txt').mkdir()
    mmsegs = dict(img_suffix='.png', seg_map_suffix='.png', ignore_index=11, ann_file='train.txt')
    with pytest.raises(ValueError, match=r'train\.txt: found a folder; expected a split file, ann_file of'):
        check_data(data_config(pair[0], type=kind, **mmsegs))
