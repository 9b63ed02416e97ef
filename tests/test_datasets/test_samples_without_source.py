"""Samples that were made from no image: what they know of the data set, and which pixels reach the model."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.images import image_size, load_image
from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.datasets import SyntheticSampleDataset
from mmdiff2in1.synthesis.store import SampleStore
from mmdiff2in1.synthesis.unlabelled import UnlabelledPool
from mmdiff2in1.tasks import Depth

SIZE = (12, 16)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def root(tmp_path):
    """Three labelled images with class and depth maps."""
    rng = np.random.default_rng(0)
    for index in range(3):
        write_png(tmp_path / f'images/{index}.png', rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        write_png(tmp_path / f'classes/{index}.png', rng.integers(0, 4, SIZE, dtype=np.uint8))
        write_png(tmp_path / f'depth/{index}.png', Depth().encode(rng.uniform(0.5, 9, SIZE)))
        write_png(tmp_path / f'depth/{index}_mask.png', np.full(SIZE, 255, np.uint8))
    return tmp_path


@pytest.fixture
def photos(tmp_path):
    """A grey one, one of 16 bits, one with transparency, a JPEG that lies on its side."""
    rng = np.random.default_rng(1)
    folder = tmp_path / 'photos'
    folder.mkdir()
    cv2.imwrite(str(folder / 'grey.png'), rng.integers(0, 256, SIZE, dtype=np.uint8))
    cv2.imwrite(str(folder / 'deep.png'), rng.integers(0, 65536, SIZE, dtype=np.uint16))
    cv2.imwrite(str(folder / 'alpha.png'), rng.integers(0, 256, (*SIZE, 4), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(folder / 'side.jpg', exif=exif)
    return folder


def config(root, *steps, kind='BaseSegDataset', prefix=('seg_map_path',), packed='PackSegInputs', **settings):
    folders = dict(seg_map_path='classes', depth_map_path='depth')
    return dict(
        type=kind,
        data_root=str(root),
        data_prefix=dict(img_path='images', **{key: folders[key] for key in prefix}),
        img_suffix='.png',
        serialize_data=False,
        pipeline=[dict(type='LoadImageFromFile'), *steps, dict(type=packed)],
        **settings,
    )


def unlabelled(photos, folder, copied=False):
    store = SampleStore(folder)
    UnlabelledPool.of(str(photos), copied).add(store)
    return store


def test_pixels_are_those_of_the_file_and_of_its_copy(root, photos, tmp_path):
    places = [unlabelled(photos, tmp_path / name, copied=name == 'copied') for name in ('placed', 'copied')]
    labels = dict(type='LoadAnnotations')
    placed, copied = (SyntheticSampleDataset(config(root, labels), store.folder) for store in places)
    assert placed.synthetic_length == 4
    for index in range(3, 7):
        one, other = placed[index], copied[index]
        assert torch.equal(one['inputs'], other['inputs'])
        record = places[0].records()[index - 3]
        expected = load_image(record['path'], image_size(record['path']))
        found = one['inputs'].permute(1, 2, 0).numpy()[..., ::-1]  # BGR
        assert found.shape == expected.shape == (*record['size'], 3)
        # Two decoders of JPEG may differ by a level or two.
        assert np.abs(found.astype(int) - expected).max() <= (2 if record['path'].endswith('.jpg') else 0)
        assert one['data_samples'].gt_sem_seg.data.unique().tolist() == [255]
        assert one['data_samples'].metainfo['sample_id'] == record['sample_id']
        assert one['data_samples'].metainfo['synthetic'] is True
        assert other['data_samples'].gt_sem_seg.shape == one['data_samples'].gt_sem_seg.shape == tuple(record['size'])


def test_only_what_all_images_have_in_common_is_borrowed(root, photos, tmp_path):
    settings = dict(kind='DenseMapDataset', prefix=('depth_map_path',), mask_suffix='_mask.png')
    box = (0.0, 0.5, 0.0, 1.0)
    step = dict(type='LoadDenseAnnotation', task=dict(type='Depth'))
    cfg = config(root, step, packed='PackDenseInputs', valid_box=box, **settings)
    dataset = SyntheticSampleDataset(cfg, unlabelled(photos, tmp_path / 'store').folder, lazy_init=True)
    dataset.dataset.full_init()
    for number, info in enumerate(dataset.dataset.data_list):
        info |= dict(category_id=number, caption=f'room {number}', camera=np.arange(3))
    info = dataset.get_data_info(4)
    assert (info['valid_box'], info['caption'], info['labels']) == (box, '', 'none')
    assert info['depth_map_path'] is None and info['valid_mask_path'] is None
    assert 'category_id' not in info and info['camera'].tolist() == [0, 1, 2]
    info['camera'][0] = 9
    assert dataset.get_data_info(4)['camera'].tolist() == [0, 1, 2]
    sample = dataset[4]['data_samples']
    assert sample.gt_depth_map.data.abs().sum() == 0
    real = dataset[0]['data_samples']
    assert real.gt_depth_map.data[..., :6, :].min() > 0


@pytest.mark.parametrize('labels', ['none', 'stored', 'source'])
def test_nothing_is_known_whatever_labels_are_asked_for(root, photos, tmp_path, labels):
    """Zero label reduced: 0 is 255 in a real map, and here everything is."""
    store = unlabelled(photos, tmp_path / 'store')
    store.add(dict(sample_id='noise', source=None, caption='a bed'), np.full((*SIZE, 3), 7, np.uint8))
    cfg = config(root, dict(type='LoadAnnotations'), reduce_zero_label=True)
    dataset = SyntheticSampleDataset(cfg, store.folder, labels=labels)
    assert dataset.synthetic_length == 5
    for index in range(3, 8):
        assert dataset.get_data_info(index)['reduce_zero_label'] is True
        assert dataset[index]['data_samples'].gt_sem_seg.data.unique().tolist() == [255]
    noise = next(i for i in range(3, 8) if dataset.get_data_info(i)['caption'] == 'a bed')
    assert dataset[noise]['inputs'].unique().tolist() == [7]


def test_small_images_go_through_the_geometry_like_others(root, photos, tmp_path):
    steps = [
        dict(type='LoadAnnotations'),
        dict(type='RandomResize', scale=(64, 64), ratio_range=(1.0, 1.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(24, 24)),
    ]
    dataset = SyntheticSampleDataset(config(root, *steps), unlabelled(photos, tmp_path / 'store').folder)
    assert {tuple(dataset[index]['inputs'].shape) for index in range(7)} == {(3, 24, 24)}


def test_draws_are_by_number(root, photos, tmp_path):
    store = unlabelled(photos, tmp_path / 'store')
    assert SyntheticSampleDataset(config(root), store.folder, num_samples=2).synthetic_length == 2
    with pytest.raises(ValueError, match='4 of 4 samples in .* belong to no image .* ask for num_samples instead'):
        SyntheticSampleDataset(config(root), store.folder, samples_per_image=1)


def test_damaged_and_moved_files_are_named(root, photos, tmp_path):
    store = unlabelled(photos, tmp_path / 'store')
    content = (photos / 'grey.png').read_bytes()
    (photos / 'grey.png').write_bytes(content[:-9] + b'x' * 9)
    with pytest.raises(RuntimeError, match=r'1 of 4 samples are damaged: .*photos/grey\.png: is damaged'):
        SyntheticSampleDataset(config(root), store.folder)
    (photos / 'grey.png').write_bytes(content)
    dataset = SyntheticSampleDataset(config(root), store.folder)
    shutil.move(photos, tmp_path / 'moved')
    with pytest.raises(RuntimeError, match=r'photos/alpha\.png is missing or damaged'):
        dataset[3]
    with pytest.raises(RuntimeError, match=r'4 of 4 .*photos/.*if their folder has moved, name its new place'):
        SyntheticSampleDataset(config(root), store.folder)
    UnlabelledPool.of(str(tmp_path / 'moved')).add(store)
    assert SyntheticSampleDataset(config(root), store.folder)[3]['inputs'].shape[0] == 3
