"""Maps on their way from the file to the sample: axes, sizes, mirroring, zoom, crops, valid region, refusals."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.datasets.transforms.load_dense_annotation import valid_region
from mmdiff2in1.tasks import Depth, SurfaceNormal

NORMAL, DEPTH = dict(type='SurfaceNormal'), dict(type='Depth')
SAMPLES = Path(os.environ.get('MMDIFF2IN1_SAMPLES', Path(__file__).resolve().parents[2] / 'data/samples'))
SIZE = (12, 20)


@pytest.fixture
def info(tmp_path):
    """An image with a normal and a depth map whose values tell every pixel from every other."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(*SIZE, 3))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors[:2] = 0
    metres = np.round(rng.uniform(0.5, 9, SIZE), 3)
    metres[:, :3] = 0
    cv2.imwrite(str(tmp_path / 'image.png'), rng.integers(0, 255, (*SIZE, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'normal.png'), SurfaceNormal().encode(vectors)[..., ::-1])
    cv2.imwrite(str(tmp_path / 'depth.png'), Depth().encode(metres))
    names = dict(img_path='image', normal_map_path='normal', depth_map_path='depth')
    return {key: str(tmp_path / f'{name}.png') for key, name in names.items()} | dict(seg_fields=[])


def run(info, *steps, tasks=(NORMAL, DEPTH)):
    init_default_scope('mmseg')
    loads = [dict(type='LoadImageFromFile'), *(dict(type='LoadDenseAnnotation', task=task) for task in tasks)]
    return Compose([*loads, *steps, dict(type='PackDenseInputs')])(dict(info))


def maps(packed):
    sample = packed['data_samples']
    return sample.gt_normal_map.data.numpy(), sample.gt_depth_map.data.numpy()


def test_the_maps_arrive_as_the_tasks_decode_them(info):
    normal, depth = maps(run(info))
    assert normal.shape == (3, *SIZE) and depth.shape == (1, *SIZE) and normal.dtype == depth.dtype == np.float32
    rgb = cv2.imread(info['normal_map_path'], cv2.IMREAD_UNCHANGED)[..., ::-1]
    np.testing.assert_array_equal(normal.transpose(1, 2, 0), SurfaceNormal().decode(np.ascontiguousarray(rgb)))
    np.testing.assert_array_equal(depth[0], Depth().decode(cv2.imread(info['depth_map_path'], cv2.IMREAD_UNCHANGED)))


def test_mirroring_asks_the_task(info):
    normal, depth = maps(run(info))
    flipped, flipped_depth = maps(run(info, dict(type='DenseRandomFlip', prob=1.0)))
    np.testing.assert_array_equal(flipped, normal[..., ::-1] * np.array([-1, 1, 1], np.float32)[:, None, None])
    np.testing.assert_array_equal(flipped_depth, depth[..., ::-1])
    packed = run(info, dict(type='DenseRandomFlip', prob=1.0))
    np.testing.assert_array_equal(packed['inputs'].numpy(), run(info)['inputs'].numpy()[..., ::-1])


def test_a_mirror_that_does_not_know_the_task_is_refused(info):
    with pytest.raises(ValueError, match='use DenseRandomFlip'):
        run(info, dict(type='RandomFlip', prob=1.0))
    with pytest.raises(ValueError, match="expected 'horizontal'"):
        run(info, dict(type='DenseRandomFlip', prob=1.0, direction='vertical'))


def test_resize_and_zoom(info):
    size = dict(scale=(40, 24), keep_ratio=True)
    normal, depth = maps(run(info, dict(type='DenseResize', **size)))
    length = np.linalg.norm(normal, axis=0)
    assert normal.shape == (3, 24, 40) and np.all((abs(length - 1) < 1e-5) | (length == 0))
    small = maps(run(info))[1]
    np.testing.assert_array_equal(depth, small.repeat(2, 1).repeat(2, 2))
    zoomed_normal, zoomed = maps(run(info, dict(type='DenseResize', scale_values=True, **size)))
    np.testing.assert_allclose(zoomed, depth / 2, rtol=1e-6)
    np.testing.assert_array_equal(zoomed_normal, normal)


def test_random_size_and_crop_keep_image_and_maps_together(info):
    np.random.seed(0)
    steps = (
        dict(type='RandomResize', resize_type='DenseResize', scale=(20, 12), ratio_range=(1.0, 1.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(6, 8)),
    )
    packed = run(info, *steps)
    image, whole = packed['inputs'].numpy(), run(info)['inputs'].numpy()
    places = [(y, x) for y in range(7) for x in range(13) if (whole[:, y : y + 6, x : x + 8] == image).all()]
    assert len(places) == 1
    y, x = places[0]
    for crop, full in zip(maps(packed), maps(run(info)), strict=True):
        np.testing.assert_array_equal(crop, full[:, y : y + 6, x : x + 8])


def test_another_frame_of_the_files(info):
    normal, _ = maps(run(info))
    turned = run(info | dict(label_axes=('-x', '-y', '-z')), tasks=(NORMAL,))['data_samples'].gt_normal_map.data
    np.testing.assert_array_equal(turned.numpy(), -normal)
    with pytest.raises(ValueError, match=r'depth.png: depth: label_axes=.* hold no vectors'):
        run(info | dict(label_axes=('-x', '-y', '-z'), normal_map_path=None), tasks=(DEPTH,))


def test_the_frame_of_a_set_with_normals_leaves_its_depth_alone(info):
    normal, depth = maps(run(info))
    turned, same = maps(run(info | dict(label_axes=('-x', '-y', '-z'))))
    np.testing.assert_array_equal(turned, -normal)
    np.testing.assert_array_equal(same, depth)


def test_the_valid_region_goes_along(info):
    """45 … 471 of 480 rows and 41 … 601 of 640 columns at the size of the image itself, and mirrored."""
    region = valid_region((45 / 480, 471 / 480, 41 / 640, 601 / 640), (480, 640))
    expected = np.zeros((480, 640), np.uint8)
    expected[45:471, 41:601] = 1
    np.testing.assert_array_equal(region, expected)
    box = dict(valid_box=(0.25, 1.0, 0.0, 0.5))
    packed = run(info | box, dict(type='DenseRandomFlip', prob=1.0))
    found = packed['data_samples'].gt_valid_region.data
    expected = np.zeros((1, *SIZE), bool)
    expected[:, 3:, 10:] = True
    np.testing.assert_array_equal(found.numpy(), expected)
    assert 'gt_valid_region' not in run(info)['data_samples']


def test_a_synthetic_sample_without_a_label_says_nothing(info):
    created = info | dict(labels='none', normal_map_path=None, depth_map_path=None)
    normal, depth = maps(run(created, dict(type='DenseRandomFlip', prob=1.0)))
    assert normal.shape == (3, *SIZE) and depth.shape == (1, *SIZE) and not normal.any() and not depth.any()


def test_float_files(info, tmp_path):
    metres = np.random.default_rng(1).uniform(0, 9, SIZE)
    np.save(tmp_path / 'depth.npy', metres)
    packed = run(info | dict(depth_map_path=str(tmp_path / 'depth.npy')))
    np.testing.assert_array_equal(maps(packed)[1][0], metres.astype(np.float32))


@pytest.mark.skipif(not (SAMPLES / 'nyuv2/metric_depth_224').is_dir(), reason='no samples (MMDIFF2IN1_SAMPLES)')
def test_a_real_depth_map_in_metres(tmp_path):
    """An image of NYUv2 with its depth as a float array: 0.72 to 5.87 m, no holes."""
    folder = SAMPLES / 'nyuv2/metric_depth_224'
    cv2.imwrite(str(tmp_path / 'rgb.png'), np.round(np.load(folder / 'rgb.npy')[..., ::-1] * 255).astype(np.uint8))
    real = dict(img_path=str(tmp_path / 'rgb.png'), depth_map_path=str(folder / 'depth.npy'), seg_fields=[])
    depth = run(real, tasks=(DEPTH,))['data_samples'].gt_depth_map.data.numpy()[0]
    np.testing.assert_array_equal(depth, np.load(folder / 'depth.npy'))
    assert depth.min() == pytest.approx(0.72, abs=0.01) and depth.max() == pytest.approx(5.87, abs=0.01)
    written = Depth().decode(Depth().encode(depth))
    assert np.abs(written - depth).max() <= 0.00051


def test_what_is_refused(info, tmp_path):
    def written(array, name='wrong.png'):
        cv2.imwrite(str(tmp_path / name), array)
        return str(tmp_path / name)

    with pytest.raises(ValueError, match=r'wrong.png: depth: the label file holds uint8'):
        run(info | dict(depth_map_path=written(np.ones(SIZE, np.uint8))))
    with pytest.raises(ValueError, match=r'wrong.png: found a map of 12×19 .* expected 12×20'):
        run(info | dict(depth_map_path=written(np.ones((12, 19), np.uint16))))
    with pytest.raises(ValueError, match='vectors of the label file have a length like'):
        run(info | dict(normal_map_path=written(np.full((*SIZE, 3), 128, np.uint8))))
    with pytest.raises(ValueError, match='that OpenCV cannot read'):
        (tmp_path / 'text.png').write_text('no picture')
        run(info | dict(depth_map_path=str(tmp_path / 'text.png')))
    for name in ('empty.png', 'empty.npy'):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=f'{name}: expected an image or a .npy file, found an empty one'):
            run(info | dict(depth_map_path=str(tmp_path / name)))
    np.save(tmp_path / 'nan.npy', np.full(SIZE, np.nan))
    with pytest.raises(ValueError, match='240 pixels hold values like nan'):
        run(info | dict(depth_map_path=str(tmp_path / 'nan.npy')))


def test_cut_depth_writes_a_stripe_of_grey(info):
    np.random.seed(3)
    packed, plain = run(info, dict(type='CutDepth', prob=1.0), tasks=(DEPTH,)), run(info, tasks=(DEPTH,))
    changed = (packed['inputs'] != plain['inputs']).any(0).numpy()
    columns = np.flatnonzero(changed.any(0))
    assert 0 < len(columns) == columns[-1] - columns[0] + 1 <= 15
    depth = plain['data_samples'].gt_depth_map.data.numpy()[0]
    np.testing.assert_array_equal(packed['inputs'][:, :, columns], np.stack([depth[:, columns] * 25.5] * 3).astype(int))
    np.testing.assert_array_equal(packed['data_samples'].gt_depth_map.data.numpy()[0], depth)
    never = run(info | dict(depth_map_path=None), dict(type='CutDepth', prob=1.0), tasks=(DEPTH,))
    np.testing.assert_array_equal(never['inputs'], plain['inputs'])
    with pytest.raises(KeyError, match='no depth was loaded'):
        run(info, dict(type='CutDepth'), tasks=(NORMAL,))


def test_a_map_that_was_mirrored_without_its_task_is_found_among_others(info):
    """Normals before a mirror that does not know them, depth after one: the later map does not hide the earlier."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadDenseAnnotation', task=NORMAL)]
    late = [dict(type='LoadDenseAnnotation', task=DEPTH), dict(type='PackDenseInputs')]
    init_default_scope('mmseg')
    with pytest.raises(ValueError, match='does not know that gt_normal_map may have'):
        Compose([*load, dict(type='RandomFlip', prob=1.0), *late])(dict(info))
    packed = Compose([*load, dict(type='DenseRandomFlip', prob=1.0), *late])(dict(info))
    normal, depth = maps(run(info))
    sign = np.array([-1, 1, 1], np.float32)[:, None, None]
    np.testing.assert_array_equal(maps(packed)[0], normal[..., ::-1] * sign)
    np.testing.assert_array_equal(maps(packed)[1], depth)


def test_zoom_and_mirror_of_a_set_of_three_tasks(info, tmp_path):
    """Classes, normals and depth in one pipeline, each changed by its own task."""
    classes = np.random.default_rng(4).integers(0, 4, SIZE, dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'classes.png'), classes)
    three = info | dict(seg_map_path=str(tmp_path / 'classes.png'), reduce_zero_label=False)
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadClassAnnotation'),
        dict(type='LoadDenseAnnotation', task=NORMAL),
        dict(type='LoadDenseAnnotation', task=DEPTH),
        dict(type='DenseResize', scale=(40, 24), keep_ratio=True, scale_values=True),
        dict(type='DenseRandomFlip', prob=1.0),
        dict(type='CutDepth', prob=0.0),
        dict(type='PackDenseInputs'),
    ]
    init_default_scope('mmseg')
    sample = Compose(steps)(three)['data_samples']
    np.testing.assert_array_equal(sample.gt_sem_seg.data[0], classes[:, ::-1].repeat(2, 0).repeat(2, 1))
    normal, depth = maps(run(info, dict(type='DenseResize', scale=(40, 24), keep_ratio=True)))
    sign = np.array([-1, 1, 1], np.float32)[:, None, None]
    np.testing.assert_array_equal(sample.gt_normal_map.data, normal[..., ::-1] * sign)
    np.testing.assert_array_equal(sample.gt_depth_map.data, depth[..., ::-1] / 2)
    assert 'pad' not in sample.gt_sem_seg, "mmseg's own map is padded by mmseg's seg_pad_val"
    assert (sample.gt_normal_map.pad, sample.gt_depth_map.pad) == (0.0, 0.0)


def test_classes_that_change_places_in_a_mirror_do_so_in_class_maps_only(info, tmp_path):
    """mmseg's swap_seg_labels, with depths of exactly one and two metres and a region of ones beside the classes."""
    classes = np.random.default_rng(4).integers(0, 4, SIZE, dtype=np.uint8)
    metres = np.random.default_rng(5).integers(0, 3, SIZE).astype(np.float32)
    cv2.imwrite(str(tmp_path / 'classes.png'), classes)
    np.save(tmp_path / 'depth.npy', metres)
    paths = dict(seg_map_path=str(tmp_path / 'classes.png'), depth_map_path=str(tmp_path / 'depth.npy'))
    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadClassAnnotation'),
        dict(type='LoadDenseAnnotation', task=DEPTH),
        dict(type='DenseRandomFlip', prob=1.0, swap_seg_labels=[(0, 1), (2, 3)]),
        dict(type='PackDenseInputs'),
    ]
    init_default_scope('mmseg')
    sample = Compose(steps)(info | paths | dict(reduce_zero_label=False, valid_box=(0.25, 1.0, 0.0, 0.5)))
    sample = sample['data_samples']
    np.testing.assert_array_equal(sample.gt_sem_seg.data[0], np.array([1, 0, 3, 2])[classes[:, ::-1]])
    np.testing.assert_array_equal(sample.gt_depth_map.data[0], metres[:, ::-1])
    expected = np.zeros((1, *SIZE), bool)
    expected[:, 3:, 10:] = True
    np.testing.assert_array_equal(sample.gt_valid_region.data, expected)


def test_cut_depth_in_sets(info):
    """It finds the depth among other maps, also under another field; a set without depth for this image is not cut."""

    class SecondDepth(Depth):
        field = 'gt_second_depth_map'

    both = [dict(type='LoadDenseAnnotation', task=task) for task in (NORMAL, DEPTH)]
    init_default_scope('mmseg')
    steps = [dict(type='LoadImageFromFile'), *both]
    plain, cut = (Compose(each) for each in (steps, [*steps, dict(type='CutDepth', prob=1.0)]))
    np.random.seed(3)
    expected = cut(dict(info))
    again, results = Compose([dict(type='CutDepth', prob=1.0)]), plain(dict(info))
    results['gt_second_depth_map'] = results.pop('gt_depth_map')
    results['dense_tasks'] = {'gt_normal_map': SurfaceNormal(), 'gt_second_depth_map': SecondDepth()}
    np.random.seed(3)
    np.testing.assert_array_equal(again(results)['img'], expected['img'])
    assert (expected['img'] != plain(dict(info))['img']).any()
    np.random.seed(3)
    without = dict(info) | dict(depth_map_path=None)
    np.testing.assert_array_equal(cut(without)['img'], plain(dict(info))['img'])
    after = np.random.get_state()[1].tolist()
    np.random.seed(3)
    cut(dict(info))
    assert np.random.get_state()[1].tolist() == after, 'the draws are those of an image with depth'


def test_colour_augmentation_stays_in_its_ranges():
    init_default_scope('mmseg')
    image = np.tile(np.arange(0, 256, 5, dtype=np.uint8)[:, None, None], (1, 4, 3))
    np.random.seed(0)
    always, never = (Compose([dict(type='ColourAugmentation', prob=prob)]) for prob in (1.0, 0.0))
    np.testing.assert_array_equal(never(dict(img=image))['img'], image)
    for _ in range(50):
        changed = always(dict(img=image))['img']
        assert changed.dtype == np.float32 and changed.min() >= 0 and changed.max() <= 255
        share = image[1:].astype(np.float64) / 255
        lowest, highest = 255 * 0.75 * 0.9 * share**1.1, np.minimum(255, 255 * 1.25 * 1.1 * share**0.9)
        assert (changed[1:] >= lowest - 1e-3).all() and (changed[1:] <= highest + 1e-3).all()
    with pytest.raises(ValueError, match='gamma='):
        Compose([dict(type='ColourAugmentation', gamma=(1.1, 0.9))])
