"""Sets with different tasks in one training, and a task that this package has never heard of."""

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS, TASK_UTILS

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.datasets import SyntheticSampleDataset
from mmdiff2in1.synthesis.store import SampleStore
from mmdiff2in1.tasks import DenseTask, Depth, SurfaceNormal
from mmdiff2in1.tasks.base import nearest

SIZES = dict(depth=(12, 16), normal=(10, 20), classes=(8, 8))
PADDED = (16, 24)
UNIT = np.float32([0.0, 0.6, 0.8])


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


class Brightness(DenseTask):
    """Grey values 0 … 1, float32; −1 where nothing is known. Files: float .npy, or 8 bits (0: not known)."""

    name, field, path_key = 'brightness', 'gt_brightness_map', 'brightness_map_path'
    channels, invalid = 1, -1.0

    def activate(self, logits):
        return logits.sigmoid()

    def pseudo_label(self, output):
        return output.detach().clamp(0, 1), None

    def valid(self, target):
        return target >= 0

    def encode(self, array):
        return np.where(array < 0, 0, np.round(array * 254) + 1).astype(np.uint8)

    def decode(self, array):
        if array.dtype == np.uint8:
            return np.where(array == 0, -1, (array.astype(np.float32) - 1) / 254).astype(np.float32)
        return array.astype(np.float32)

    def resize(self, array, size):
        return nearest(array, size)

    def colours(self, array):
        return np.repeat(np.clip(array * 255, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)

    @property
    def loss(self):
        return dict(type='ScaleInvariantLogLoss')

    @property
    def metric(self):
        return dict(type='PooledDepthMetric')


@pytest.fixture
def brightness():
    """Registered for one test: other tests see the package's own tasks only."""
    TASK_UTILS.register_module(module=Brightness)
    yield Brightness()
    TASK_UTILS.module_dict.pop('Brightness')


# Three sets, three tasks.

STEPS = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadClassAnnotation'),
    dict(type='LoadDenseAnnotation', task=dict(type='Depth')),
    dict(type='LoadDenseAnnotation', task=dict(type='SurfaceNormal')),
    dict(type='PackDenseInputs'),
]


@pytest.fixture
def root(tmp_path):
    maps = dict(
        depth=Depth().encode(np.full(SIZES['depth'], 2.5)),
        normal=SurfaceNormal().encode(np.broadcast_to(UNIT, (*SIZES['normal'], 3))),
        classes=np.full(SIZES['classes'], 3, np.uint8),
    )
    for kind, array in maps.items():
        write_png(tmp_path / f'{kind}/images/{kind}.png', np.full((*SIZES[kind], 3), 90, np.uint8))
        write_png(tmp_path / f'{kind}/maps/{kind}.png', array)
    return tmp_path


def mixed(root, steps=STEPS, **of_classes):
    """One image with depth only, one with normals only, one with classes only."""
    common = dict(img_suffix='.png', serialize_data=False, pipeline=steps)

    def prefix(key):
        return dict(img_path='images', **{key: 'maps'})

    depth = dict(type='DenseMapDataset', data_root=str(root / 'depth'), data_prefix=prefix('depth_map_path'), **common)
    normal = dict(
        type='DenseMapDataset', data_root=str(root / 'normal'), data_prefix=prefix('normal_map_path'), **common
    )
    classes = dict(type='BaseSegDataset', data_root=str(root / 'classes'), data_prefix=prefix('seg_map_path'), **common)
    sets = [depth, normal, classes | of_classes]
    keys = ['classes', 'palette', 'reduce_zero_label']  # the sets without classes say nothing of them
    return dict(type='ConcatDataset', datasets=sets, ignore_keys=keys)


def test_every_sample_has_all_targets(root):
    samples = [DATASETS.build(mixed(root))[index]['data_samples'] for index in range(3)]
    for sample, size in zip(samples, SIZES.values(), strict=True):
        assert sample.gt_sem_seg.data.shape == (1, *size) and sample.gt_sem_seg.data.dtype == torch.int64
        assert sample.gt_depth_map.data.shape == (1, *size) and sample.gt_depth_map.data.dtype == torch.float32
        assert sample.gt_normal_map.data.shape == (3, *size) and sample.gt_normal_map.data.dtype == torch.float32
    assert [sample.gt_sem_seg.data.unique().tolist() for sample in samples] == [[255], [255], [3]]
    assert [sample.gt_depth_map.data.unique().tolist() for sample in samples] == [[2.5], [0], [0]]
    assert [bool(sample.gt_normal_map.data.any()) for sample in samples] == [False, True, False]
    expected = torch.from_numpy(UNIT)[:, None, None].expand(3, *SIZES['normal'])
    torch.testing.assert_close(samples[1].gt_normal_map.data, expected, atol=3e-5, rtol=0)


@pytest.mark.parametrize('how', [dict(size=PADDED), dict(size_divisor=8)], ids=str)
def test_a_batch_is_padded_with_what_says_nothing(root, how):
    dataset = DATASETS.build(mixed(root))
    batch = pseudo_collate([dataset[index] for index in range(3)])
    data = MODELS.build(dict(type='DenseDataPreProcessor', **how))(batch, training=True)
    assert data['inputs'].shape == (3, 3, *PADDED)
    inside = torch.zeros(3, *PADDED, dtype=torch.bool)
    for mask, (height, width) in zip(inside, SIZES.values(), strict=True):
        mask[:height, :width] = True
    depth, normal, classes = inside
    stacked = {
        field: torch.stack([sample.get(field).data for sample in data['data_samples']])
        for field in ('gt_sem_seg', 'gt_depth_map', 'gt_normal_map')
    }
    nothing = torch.full(PADDED, 255), torch.full(PADDED, 255)
    assert torch.equal(stacked['gt_sem_seg'][:, 0], torch.stack([*nothing, torch.where(classes, 3, 255)]))
    zeros = torch.zeros(2, *PADDED)
    assert torch.equal(stacked['gt_depth_map'][:, 0], torch.cat([torch.where(depth, 2.5, 0.0)[None], zeros]))
    vectors = torch.from_numpy(UNIT)[:, None, None] * normal
    torch.testing.assert_close(stacked['gt_normal_map'][1], vectors, atol=3e-5, rtol=0)
    assert not stacked['gt_normal_map'][[0, 2]].any() and not stacked['gt_normal_map'][1][:, ~normal].any()
    for sample, size in zip(data['data_samples'], SIZES.values(), strict=True):
        assert (sample.img_shape, sample.pad_shape) == (size, PADDED)


def test_a_valid_region_and_the_ignored_class_of_a_mixed_set(root):
    """Outside of a region, and in the padding, there is no ground truth; LoadClassAnnotation knows who is ignored."""
    steps = [STEPS[0], dict(type='LoadClassAnnotation', ignore_index=11), *STEPS[2:]]
    cfg = mixed(root, steps, ignore_index=11)
    cfg['datasets'][0]['valid_box'] = (0.0, 0.5, 0.0, 1.0)
    dataset = DATASETS.build(cfg)
    batch = pseudo_collate([dataset[index] for index in range(3)])
    samples = MODELS.build(dict(type='DenseDataPreProcessor', size=PADDED, seg_pad_val=11))(batch, training=True)
    samples = samples['data_samples']
    expected = torch.zeros(1, *PADDED, dtype=torch.bool)
    expected[:, :6, :16] = True
    assert torch.equal(samples[0].gt_valid_region.data, expected)
    assert [sample.gt_sem_seg.data.unique().tolist() for sample in samples] == [[11], [11], [3, 11]]


def test_created_images_of_mixed_sets(root):
    """One of each set. They know nothing, or what their source knows; ignored is what the loader calls ignored."""
    store = SampleStore(root / 'store')
    for kind in SIZES:
        store.add(dict(sample_id=kind, source=f'{kind}/images/{kind}.png'), np.zeros((20, 24, 3), np.uint8))
    steps = [STEPS[0], dict(type='LoadClassAnnotation', ignore_index=11), *STEPS[2:]]
    for labels in ('none', 'source'):
        dataset = SyntheticSampleDataset(mixed(root, steps, ignore_index=11), root / 'store', labels=labels)
        samples = {}
        for index in range(3, 6):
            sample = dataset[index]['data_samples']
            samples[sample.metainfo['sample_id']] = sample
        assert sorted(samples) == ['classes', 'depth', 'normal']
        for kind, sample in samples.items():
            known = kind if labels == 'source' else None
            assert sample.gt_sem_seg.data.shape == sample.gt_depth_map.data.shape == (1, 20, 24)
            assert sample.gt_sem_seg.data.unique().tolist() == [3 if known == 'classes' else 11]
            assert sample.gt_depth_map.data.unique().tolist() == [2.5 if known == 'depth' else 0]
            assert bool(sample.gt_normal_map.data.any()) == (known == 'normal')


def test_a_set_with_maps_of_all_kinds(root):
    """DenseMapDataset with classes beside the others, which mmseg's loader reads, zero label and all."""
    write_png(root / 'depth/classes/depth.png', np.full(SIZES['depth'], 4, np.uint8))
    for reduce_zero_label, expected in ((False, 4), (True, 3)):
        cfg = dict(
            type='DenseMapDataset',
            data_root=str(root / 'depth'),
            data_prefix=dict(img_path='images', depth_map_path='maps', seg_map_path='classes'),
            reduce_zero_label=reduce_zero_label,
            pipeline=STEPS,
        )
        sample = DATASETS.build(cfg)[0]['data_samples']
        assert sample.gt_sem_seg.data.unique().tolist() == [expected]
        assert sample.gt_depth_map.data.unique().tolist() == [2.5]


# A task of somebody else's.


@pytest.fixture
def bright(tmp_path):
    """An image with a different brightness at every pixel, unknown in the first column; and a mask without the last."""
    rng = np.random.default_rng(0)
    values = rng.permutation(12 * 16).reshape(12, 16).astype(np.float32) / 256
    values[0, 1] = 0  # black is a value
    values[:, 0] = -1
    write_png(tmp_path / 'images/0.png', rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    write_png(tmp_path / 'images/1.png', rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    (tmp_path / 'maps').mkdir()
    np.save(tmp_path / 'maps/0.npy', values)
    return tmp_path, values


def run(root, *steps, index=0, **facts):
    paths = dict(img_path=str(root / f'images/{index}.png'))
    if index == 0:
        paths['brightness_map_path'] = str(root / 'maps/0.npy')
    load = [dict(type='LoadImageFromFile'), dict(type='LoadDenseAnnotation', task=dict(type='Brightness'))]
    return Compose([*load, *steps, dict(type='PackDenseInputs')])(paths | facts)


def test_a_foreign_task_goes_through_the_whole_pipeline(brightness, bright):
    root, values = bright
    resize = dict(type='DenseResize', scale=(32, 24), keep_ratio=True, scale_values=True)
    flip, crop = dict(type='DenseRandomFlip', prob=1.0), dict(type='RandomCrop', crop_size=(8, 10))
    plain = run(root)['data_samples'].gt_brightness_map
    assert plain.data.dtype == torch.float32 and plain.pad == -1.0
    np.testing.assert_array_equal(plain.data[0], values)

    whole = run(root, resize, flip)
    expected = values[:, ::-1].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(whole['data_samples'].gt_brightness_map.data[0], expected)
    np.random.seed(2)
    packed = run(root, resize, flip, crop)
    places = [
        (y, x)
        for y in range(17)
        for x in range(23)
        if torch.equal(whole['inputs'][:, y : y + 8, x : x + 10], packed['inputs'])
    ]
    assert len(places) == 1
    y, x = places[0]
    np.testing.assert_array_equal(packed['data_samples'].gt_brightness_map.data[0], expected[y : y + 8, x : x + 10])

    data = MODELS.build(dict(type='DenseDataPreProcessor', size=(12, 14)))(pseudo_collate([packed]), training=True)
    padded = data['data_samples'][0].gt_brightness_map.data
    assert padded.shape == (1, 12, 14) and padded.dtype == torch.float32
    np.testing.assert_array_equal(padded[0, :8, :10], expected[y : y + 8, x : x + 10])
    outside = torch.ones(12, 14, dtype=torch.bool)
    outside[:8, :10] = False
    assert padded[0][outside].unique().tolist() == [-1.0]


def test_a_foreign_task_where_nothing_is_known(brightness, bright):
    """Neither in an image without a file, nor under a mask: 0 is a brightness."""
    root, values = bright
    missing = run(root, dict(type='DenseRandomFlip', prob=1.0), index=1)['data_samples'].gt_brightness_map.data
    assert missing.dtype == torch.float32 and missing.shape == (1, 12, 16) and missing.unique().tolist() == [-1.0]
    assert torch.equal(missing, brightness.unknown_target((12, 16)))
    mask = np.full((12, 16), 255, np.uint8)
    mask[:, 12:] = 0
    write_png(root / 'mask.png', mask)
    masked = run(root, valid_mask_path=str(root / 'mask.png'))['data_samples'].gt_brightness_map.data[0].numpy()
    np.testing.assert_array_equal(masked[:, :12], values[:, :12])
    assert set(masked[:, 12:].flat) == {-1.0} and masked[0, 1] == 0
    np.testing.assert_array_equal(brightness.known(masked), (mask > 0) & (values >= 0))


def test_labels_of_a_foreign_task_in_a_store(brightness, bright):
    root, _ = bright
    levels = np.arange(12 * 16).reshape(12, 16) / 254
    levels[3] = -1
    store = SampleStore(root / 'store')
    label = dict(brightness=brightness.encode(np.minimum(levels, 1)))
    store.add(dict(sample_id='a', source='images/0.png'), np.zeros((12, 16, 3), np.uint8), label)
    cfg = dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images'),
        img_suffix='.png',
        serialize_data=False,
        pipeline=[STEPS[0], dict(type='LoadDenseAnnotation', task=dict(type='Brightness')), STEPS[-1]],
    )
    for labels, expected in (('stored', np.minimum(levels, 1)), ('none', np.full((12, 16), -1.0))):
        found = SyntheticSampleDataset(cfg, root / 'store', labels=labels)[2]['data_samples'].gt_brightness_map.data
        np.testing.assert_allclose(found[0], expected, atol=1e-6)
