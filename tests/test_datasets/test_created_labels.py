"""What a created image brings along: nothing, as if an empty label map lay beside it; its own label; its source's."""

import json
import pickle
import random
from pathlib import Path

import cv2
import mmengine.fileio
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, TRANSFORMS

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.core.randomness import seed_all
from mmdiff2in1.datasets import SyntheticSampleDataset
from mmdiff2in1.synthesis.store import MANIFEST, SampleStore
from mmdiff2in1.tasks import Depth, SemanticSegmentation, SurfaceNormal

SIZE = (12, 16)
NORMAL, DEPTH = dict(type='SurfaceNormal'), dict(type='Depth')
CLASSES = dict(type='LoadAnnotations')
DENSE = [dict(type='LoadDenseAnnotation', task=task) for task in (DEPTH, NORMAL)]
AXES = ('-x', '-y', '-z')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def root(tmp_path):
    """Two real images with class, depth and normal maps, and masks beside the latter that know the right half only."""
    rng = np.random.default_rng(0)
    for index in range(2):
        vectors = rng.normal(size=(*SIZE, 3))
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        mask = np.zeros(SIZE, np.uint8)
        mask[:, 8:] = 255
        write_png(tmp_path / f'images/{index}.png', rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        write_png(tmp_path / f'classes/{index}.png', rng.integers(0, 5, SIZE, dtype=np.uint8))
        write_png(tmp_path / f'depth/{index}.png', Depth().encode(rng.uniform(0.5, 9, SIZE)))
        write_png(tmp_path / f'normal/{index}.png', SurfaceNormal().encode(vectors))
        for folder in ('depth', 'normal'):
            write_png(tmp_path / f'{folder}/{index}_mask.png', mask)
    return tmp_path


def raw(root, folder, index=0):
    array = cv2.imread(str(root / f'{folder}/{index}.png'), cv2.IMREAD_UNCHANGED)
    return array if array.ndim == 2 else np.ascontiguousarray(array[..., ::-1])


def created(root, size=SIZE, labels=None, source='images/0.png', name='a'):
    """A store of one created image, whose pixels tell every place of it from every other."""
    store = SampleStore(root / 'store')
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([rows, columns, rows * 7 % 256], axis=-1).astype(np.uint8)
    store.add(dict(sample_id=name, source=source), image, labels)
    return store.folder


def config(root, *steps, kind='BaseSegDataset', packed='PackDenseInputs', prefix=None, **settings):
    folders = dict(seg_map_path='classes', depth_map_path='depth', normal_map_path='normal')
    kept = {key: folder for key, folder in folders.items() if prefix is None or key in prefix}
    return dict(
        type=kind,
        data_root=str(root),
        data_prefix=dict(img_path='images', **kept),
        img_suffix='.png',
        serialize_data=False,
        pipeline=[dict(type='LoadImageFromFile'), *steps, dict(type=packed)],
        **settings,
    )


def dense(root, *steps, prefix, **settings):
    return config(root, *steps, kind='DenseMapDataset', prefix=prefix, **settings)


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def nearest_by_hand(array, size):
    """The pixel of the source in which the centre of each pixel lies."""
    found = np.zeros((*size, *array.shape[2:]), array.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            found[y, x] = array[int((y + 0.5) * array.shape[0] / size[0]), int((x + 0.5) * array.shape[1] / size[1])]
    return found


def targets(packed):
    sample = packed['data_samples']
    return {field: sample.get(field).data for field in sample.keys() if field.startswith('gt_')}


# Nothing.

CROP = dict(type='RandomCrop', crop_size=(8, 8), cat_max_ratio=0.75)
AUGMENTATION = [dict(type='RandomFlip', prob=0.5), CROP, dict(type='PhotoMetricDistortion')]
DENSE_AUGMENTATION = [
    dict(type='DenseRandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(8, 8)),
    dict(type='ColourAugmentation'),
]
MMSEG_DEPTH = dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3)
EMPTY = dict(depth_map_path=np.zeros(SIZE, np.uint16), normal_map_path=np.zeros((*SIZE, 3), np.uint16))


@pytest.mark.parametrize(
    ('settings', 'steps', 'empty', 'nothing'),
    [
        (dict(), [CLASSES, *AUGMENTATION], dict(seg_map_path=np.full(SIZE, 255, np.uint8)), dict(gt_sem_seg=255)),
        (
            dict(reduce_zero_label=True),
            [CLASSES, *AUGMENTATION],
            dict(seg_map_path=np.zeros(SIZE, np.uint8)),
            dict(gt_sem_seg=255),
        ),
        (
            dict(ignore_index=11),
            [CLASSES, *AUGMENTATION],
            dict(seg_map_path=np.full(SIZE, 11, np.uint8)),
            dict(gt_sem_seg=11),
        ),
        (
            dict(),
            [MMSEG_DEPTH, dict(type='RandomFlip', prob=0.5), dict(type='RandomCrop', crop_size=(8, 8))],
            dict(depth_map_path=np.zeros(SIZE, np.uint8)),
            dict(gt_depth_map=0),
        ),
        (dict(), [*DENSE, *DENSE_AUGMENTATION], EMPTY, dict(gt_depth_map=0, gt_normal_map=0)),
        (
            dict(),
            [CLASSES, *DENSE, dict(type='DenseRandomFlip', prob=0.5), CROP, dict(type='CutDepth', prob=1.0)],
            EMPTY | dict(seg_map_path=np.full(SIZE, 255, np.uint8)),
            dict(gt_sem_seg=255, gt_depth_map=0, gt_normal_map=0),
        ),
    ],
    ids=['classes', 'zero label', 'ignore 11', 'depth of mmseg', 'depth and normals', 'three tasks'],
)
def test_without_a_label_all_is_as_with_an_empty_label_file(root, monkeypatch, settings, steps, empty, nothing):
    """As versions up to 0.1.0 had one beside each created image: same inputs, same target, same draws afterwards."""
    real = DATASETS.build(config(root, *steps, **settings))
    for info in real.data_list:  # every label file that the pipeline may ask for
        for folder in ('depth', 'normal'):
            info[f'{folder}_map_path'] = str(root / folder / Path(info['img_path']).name)
    dataset = SyntheticSampleDataset(real, created(root))
    files = {}
    for key, array in empty.items():
        files[key] = str(root / f'empty/{key}.png')
        write_png(Path(files[key]), array)
    old = dict(real.get_data_info(0), img_path=str(root / 'store/images/a.png')) | files
    seed_all(5)
    with_a_file = [(real.pipeline(dict(old, seg_fields=[])), real[1]) for _ in range(6)]
    after = states()

    opened = []
    get = mmengine.fileio.get
    monkeypatch.setattr(
        mmengine.fileio, 'get', lambda path, *args, **kw: opened.append(str(path)) or get(path, *args, **kw)
    )
    seed_all(5)
    without = [(dataset[2], real[1]) for _ in range(6)]
    assert states() == after
    assert [path for path in opened if path.endswith('a.png')] == [str(root / 'store/images/a.png')] * 6
    assert len(opened) == 6 + 6 * (1 + len(files)), 'of a created image the image alone is read'
    for (expected, expected_next), (found, found_next) in zip(with_a_file, without, strict=True):
        for mine, theirs in ((found, expected), (found_next, expected_next)):
            assert torch.equal(mine['inputs'], theirs['inputs'])
            mine, theirs = targets(mine), targets(theirs)
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[key], theirs[key]) and mine[key].dtype == theirs[key].dtype for key in mine)
        assert {field: target.unique().tolist() for field, target in targets(found).items()} == {
            field: [value] for field, value in nothing.items()
        }
    assert len({found['inputs'].numpy().tobytes() for found, _ in without}) > 1, 'there was something to draw'


def test_a_crop_that_wants_several_classes_looks_eleven_times(root):
    """mmseg's RandomCrop tries ten more crops of a map in which no class is known: 22 draws in all."""
    dataset = SyntheticSampleDataset(config(root, CLASSES, CROP), created(root))
    np.random.seed(7)
    found = dataset[2]['inputs']
    state = np.random.get_state()[1].tolist()
    np.random.seed(7)
    corners = [(np.random.randint(0, 5), np.random.randint(0, 9)) for _ in range(11)]
    assert np.random.get_state()[1].tolist() == state
    y, x = corners[-1]
    assert found[2].tolist() == [[row] * 8 for row in range(y, y + 8)], 'red is the row; inputs are BGR'
    assert found[1].tolist() == [list(range(x, x + 8))] * 8


def test_a_loader_behind_a_resize_gives_the_size_of_the_image(root):
    """As mmseg's loaders do for a test, which scores at the image's own size."""
    steps = [dict(type='Resize', scale=(32, 24)), CLASSES, MMSEG_DEPTH]
    data = SyntheticSampleDataset(config(root, *steps), created(root, (6, 8)))
    data.dataset.data_list[0]['depth_map_path'] = str(root / 'depth/0.png')
    found = data[2]
    assert found['inputs'].shape == (3, 24, 32)
    assert {target.shape for target in targets(found).values()} == {(1, 6, 8)}
    source = SyntheticSampleDataset(data.dataset, root / 'store', labels='source')[2]
    np.testing.assert_array_equal(targets(source)['gt_sem_seg'][0], nearest_by_hand(raw(root, 'classes'), (6, 8)))


def test_an_old_store_trains_as_a_new_one(root):
    """Records of version 0.1.0 name an empty label map each; whatever is in it is not looked at."""
    folder = created(root)
    new = SyntheticSampleDataset(config(root, CLASSES), folder)[2]
    record = json.loads((folder / MANIFEST).read_text())
    old = record | dict(label='labels/a.png', label_sha256='0' * 64, label_kind='ignore', ignore_label=255)
    (folder / MANIFEST).write_text(json.dumps(old) + '\n')
    write_png(folder / 'labels/a.png', np.full(SIZE, 3, np.uint8))
    for labels in ('none', 'stored'):
        dataset = SyntheticSampleDataset(config(root, CLASSES), folder, labels=labels)
        assert dataset.store.verify() == [] and dataset.synthetic_length == 1
        assert torch.equal(dataset[2]['inputs'], new['inputs'])
        assert targets(dataset[2])['gt_sem_seg'].unique().tolist() == [255]


# That of the source.


@pytest.mark.parametrize('size', [SIZE, (24, 32), (6, 8), (9, 20)], ids=str)
@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_classes_of_the_source(root, size, reduce_zero_label):
    settings = dict(reduce_zero_label=reduce_zero_label)
    dataset = SyntheticSampleDataset(config(root, CLASSES, **settings), created(root, size), labels='source')
    expected = raw(root, 'classes')
    if reduce_zero_label:
        expected = np.where(expected == 0, 255, expected.astype(int) - 1)
    if size == (24, 32):
        np.testing.assert_array_equal(nearest_by_hand(expected, size), expected.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(targets(dataset[2])['gt_sem_seg'][0], nearest_by_hand(expected, size))


def test_the_label_of_the_source_goes_through_the_pipeline_with_the_image(root):
    steps = [CLASSES, *DENSE, dict(type='DenseRandomFlip', prob=1.0), dict(type='RandomCrop', crop_size=(8, 8))]
    cfg = dense(root, *steps, prefix=('seg_map_path', 'depth_map_path', 'normal_map_path'))
    dataset = SyntheticSampleDataset(cfg, created(root, (24, 32)), labels='source')
    np.random.seed(1)
    found = dataset[2]
    y, x = int(found['inputs'][2, 0, 0]), int(found['inputs'][1, 0, -1])  # of the leftmost column before the mirror
    there = np.s_[y : y + 8, x : x + 8]
    target = targets(found)
    classes = nearest_by_hand(raw(root, 'classes'), (24, 32))[there][:, ::-1]
    np.testing.assert_array_equal(target['gt_sem_seg'][0], classes)
    metres = nearest_by_hand(Depth().decode(raw(root, 'depth')), (24, 32))[there][:, ::-1]
    np.testing.assert_array_equal(target['gt_depth_map'][0], metres)
    vectors = SurfaceNormal().resize(SurfaceNormal().decode(raw(root, 'normal')), (24, 32))[there][:, ::-1]
    np.testing.assert_array_equal(target['gt_normal_map'].permute(1, 2, 0), vectors * np.float32([-1, 1, 1]))


@pytest.mark.parametrize('size', [SIZE, (24, 32), (6, 8)], ids=str)
def test_depth_of_the_source_with_its_mask(root, size):
    cfg = dense(root, DENSE[0], prefix=('depth_map_path',), mask_suffix='_mask.png')
    dataset = SyntheticSampleDataset(cfg, created(root, size), labels='source')
    metres = raw(root, 'depth').astype(np.float32) / np.float32(1000)
    metres[:, :8] = 0
    target = targets(dataset[2])['gt_depth_map']
    np.testing.assert_array_equal(target[0], nearest_by_hand(metres, size))
    half = size[1] // 2
    assert not target[..., :half].any() and target[..., half:].all()


def test_depth_of_the_source_with_the_loader_of_mmseg(root):
    cfg = dense(root, MMSEG_DEPTH, prefix=('depth_map_path',), packed='PackSegInputs')
    dataset = SyntheticSampleDataset(cfg, created(root, (6, 8)), labels='source')
    metres = raw(root, 'depth').astype(np.float32) * np.float32(1e-3)
    np.testing.assert_allclose(targets(dataset[2])['gt_depth_map'][0], nearest_by_hand(metres, (6, 8)), rtol=1e-6)


def test_normals_of_the_source_with_their_mask_and_frame(root):
    """One direction everywhere: twice the size it is the same, and known from the middle of the picture on."""
    ours = np.float32([0.6, 0.0, 0.8])
    write_png(root / 'normal/0.png', SurfaceNormal().encode(np.broadcast_to(-ours, (*SIZE, 3))))
    cfg = dense(root, DENSE[1], prefix=('normal_map_path',), mask_suffix='_mask.png', label_axes=AXES)
    for size in (SIZE, (24, 32), (6, 8)):
        folder = created(root, size)
        target = targets(SyntheticSampleDataset(cfg, folder, labels='source')[2])['gt_normal_map']
        half = size[1] // 2
        assert target.shape == (3, *size) and not target[..., :half].any()
        expected = torch.from_numpy(ours)[:, None, None].expand(3, size[0], half)
        torch.testing.assert_close(target[..., half:], expected, atol=3e-5, rtol=0)
        SampleStore(folder).remove(['a'])


def test_a_sample_from_noise_has_no_source_to_be_taught_with(root):
    dataset = SyntheticSampleDataset(config(root, CLASSES), created(root, source=None), labels='source')
    assert dataset.get_data_info(2)['seg_map_path'] is None
    assert targets(dataset[2])['gt_sem_seg'].unique().tolist() == [255]


# Its own.


@pytest.mark.parametrize('loader', ['LoadAnnotations', 'LoadClassAnnotation'])
@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_a_stored_class_map_is_in_the_encoding_of_the_task(root, loader, reduce_zero_label):
    """Classes 0 … K - 1 and 255: the zero label of the data set's files has been reduced before it was written."""
    classes = np.random.default_rng(3).integers(0, 5, SIZE, dtype=np.uint8)
    classes[:2] = 255
    folder = created(root, labels=dict(semantic_segmentation=SemanticSegmentation(5).encode(classes)))
    cfg = config(root, dict(type=loader), reduce_zero_label=reduce_zero_label)
    dataset = SyntheticSampleDataset(cfg, folder, labels='stored')
    np.testing.assert_array_equal(targets(dataset[2])['gt_sem_seg'][0], classes)
    real = raw(root, 'classes')
    expected = np.where(real == 0, 255, real.astype(int) - 1) if reduce_zero_label else real
    np.testing.assert_array_equal(targets(dataset[0])['gt_sem_seg'][0], expected)
    np.testing.assert_array_equal(targets(dataset[2])['gt_sem_seg'][0], classes, 'after a real one')


def test_a_stored_class_map_that_is_none_is_named(root):
    """Written by another program, or damaged since the store was verified."""
    folder = created(root, labels=dict(semantic_segmentation=np.zeros(SIZE, np.uint16)))
    dataset = SyntheticSampleDataset(config(root, CLASSES), folder, labels='stored')
    file = folder / 'labels/semantic_segmentation/a.png'
    with pytest.raises(
        ValueError, match=r'segmentation/a.png: found a map of uint16 .*expected classes, uint8 \(12, 16\)'
    ):
        dataset[2]
    write_png(file, np.zeros((6, 8), np.uint8))
    with pytest.raises(ValueError, match=r'found a map of uint8 \(6, 8\), expected classes, uint8 \(12, 16\)'):
        dataset[2]
    file.write_bytes(b'no picture')
    with pytest.raises(ValueError, match='segmentation/a.png: expected an image file, found something that OpenCV'):
        dataset[2]
    with pytest.raises(RuntimeError, match=r'labels/semantic_segmentation/a\.png: is damaged'):
        SyntheticSampleDataset(config(root, CLASSES), folder, labels='stored')


def test_a_stored_class_map_of_a_set_with_classes_left_out(root):
    """Two of CamVid's eleven: Sky is 0, Road (3 in the files) is 1, in the store as in training."""
    classes = np.array([0, 1, 11, 1], np.uint8).repeat(48).reshape(SIZE)
    folder = created(root, labels=dict(semantic_segmentation=classes))
    cfg = config(root, CLASSES, kind='CamVidDataset', metainfo=dict(classes=('Sky', 'Road')))
    dataset = SyntheticSampleDataset(cfg, folder, labels='stored')
    np.testing.assert_array_equal(targets(dataset[2])['gt_sem_seg'][0], classes)
    real = raw(root, 'classes')
    expected = np.select([real == 0, real == 3], [0, 1], 255)
    np.testing.assert_array_equal(targets(dataset[0])['gt_sem_seg'][0], expected)


def test_stored_depth_and_normals(root):
    """Sixteen bits, known where they say so, in our frame; mask and axes are those of the data set's own files."""
    rng = np.random.default_rng(8)
    metres = np.round(rng.uniform(0.5, 9, SIZE), 3).astype(np.float32)
    vectors = rng.normal(size=(*SIZE, 3))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    metres[0], vectors[1] = 0, 0
    labels = dict(depth=Depth().encode(metres), normal=SurfaceNormal().encode(vectors))
    cfg = dense(
        root, *DENSE, prefix=('depth_map_path', 'normal_map_path'), mask_suffix='_mask.png', label_axes=AXES
    )  # fmt: skip
    dataset = SyntheticSampleDataset(cfg, created(root, labels=labels), labels='stored')
    found, real = targets(dataset[2]), targets(dataset[0])
    np.testing.assert_allclose(found['gt_depth_map'][0], metres, atol=1e-6)
    np.testing.assert_allclose(found['gt_normal_map'].permute(1, 2, 0), vectors, atol=3e-5)
    assert not found['gt_depth_map'][:, 0].any() and not found['gt_normal_map'][:, 1].any()
    assert not real['gt_depth_map'][..., :8].any() and not real['gt_normal_map'][..., :8].any()
    turned = -SurfaceNormal().decode(raw(root, 'normal'))
    np.testing.assert_array_equal(real['gt_normal_map'].permute(1, 2, 0)[:, 8:], turned[:, 8:])
    mmseg = dense(root, MMSEG_DEPTH, prefix=('depth_map_path',), packed='PackSegInputs')
    found = targets(SyntheticSampleDataset(mmseg, root / 'store', labels='stored')[2])
    np.testing.assert_allclose(found['gt_depth_map'][0], metres, atol=1e-6)


def test_a_store_may_hold_labels_that_the_set_has_not(root):
    """Depth beside images that were created from a set with classes only."""
    metres = np.full(SIZE, 2.5, np.float32)
    folder = created(root, labels=dict(depth=Depth().encode(metres)))
    dataset = SyntheticSampleDataset(config(root, CLASSES, DENSE[0]), folder, labels='stored')
    found, real = targets(dataset[2]), targets(dataset[0])
    assert found['gt_depth_map'].unique().tolist() == [2.5] and found['gt_sem_seg'].unique().tolist() == [255]
    assert not real['gt_depth_map'].any()
    np.testing.assert_array_equal(real['gt_sem_seg'][0], raw(root, 'classes'))
    for labels in ('none', 'source'):
        dataset = SyntheticSampleDataset(config(root, CLASSES, DENSE[0]), folder, labels=labels)
        assert not targets(dataset[2])['gt_depth_map'].any()


def test_a_stored_label_of_a_task_that_nobody_registered_is_named(root):
    folder = created(root, labels=dict(edges=np.zeros(SIZE, np.uint8)))
    with pytest.raises(ValueError, match=r"sample a of .* label of 'edges', which is no registered.*known: .*depth"):
        SyntheticSampleDataset(config(root, CLASSES), folder, labels='stored')
    assert SyntheticSampleDataset(config(root, CLASSES), folder).synthetic_length == 1


@pytest.mark.parametrize('outer', ['RandomChoice', 'RandomApply'])
def test_a_loader_inside_of_another_step(root, outer):
    inner = [[CLASSES]] if outer == 'RandomChoice' else [CLASSES]
    extra = dict() if outer == 'RandomChoice' else dict(prob=1.0)
    step = dict(type=outer, transforms=inner, **extra)
    dataset = SyntheticSampleDataset(config(root, step, packed='PackSegInputs'), created(root))
    assert (dataset[2]['data_samples'].gt_sem_seg.data == 255).all()
    assert (dataset[0]['data_samples'].gt_sem_seg.data != 255).any()


def test_loaders_go_to_worker_processes_by_pickle(root):
    """As where processes are spawned: macOS, Windows."""
    step = pickle.loads(pickle.dumps(TRANSFORMS.build(dict(type='LoadClassAnnotation', ignore_index=9))))
    image = np.zeros((*SIZE, 3), np.uint8)
    found = step(
        dict(
            img=image, seg_map_path=str(root / 'classes/0.png'), reduce_zero_label=False, seg_fields=[], ori_shape=SIZE
        )
    )
    assert (found['gt_seg_map'] == raw(root, 'classes')).all()
    assert (step(dict(img=image, ori_shape=SIZE, seg_fields=[]))['gt_seg_map'] == 9).all()
