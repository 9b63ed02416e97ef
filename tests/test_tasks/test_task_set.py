"""A set of tasks does for each of them what the task does alone; maps, targets and outputs keep their names."""

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmdiff2in1.tasks import Depth, SemanticSegmentation, SurfaceNormal, TaskSet, stacked_targets

SIZE = (5, 6)


@pytest.fixture
def tasks():
    return TaskSet([SemanticSegmentation(3), Depth(), SurfaceNormal(kappa=True)])


@pytest.fixture
def output():
    return torch.randn(2, 8, *SIZE, generator=torch.Generator().manual_seed(0))


def sample(**fields):
    found = SegDataSample(metainfo=dict(img_path='a.png'))
    found.set_data({field: PixelData(data=data) for field, data in fields.items()})
    return found


# Which tasks.


@pytest.mark.parametrize('kind', [dict, ConfigDict])
def test_what_a_set_is_made_of(kind):
    """A task, a config, several of either, names with them, another set: the same thing."""
    depth, normal = kind(type='Depth', max_depth=8.0), kind(type='SurfaceNormal')
    for one in (Depth(8.0), depth, [depth], [Depth(8.0)], dict(depth=depth), kind(depth=depth), TaskSet(depth)):
        tasks = TaskSet(one)
        assert list(tasks) == ['depth'] and len(tasks) == 1 and tasks.channels == 1
        assert tasks.only is tasks['depth'] and tasks.only.max_depth == 8.0
    assert list(TaskSet([normal, Depth()])) == ['normal', 'depth'], 'the order is that of the config'
    assert list(TaskSet([depth, normal])) == ['depth', 'normal']
    named = TaskSet(kind(b=normal, a=depth))
    assert list(named) == ['b', 'a'] and isinstance(named['a'], Depth) and isinstance(named['b'], SurfaceNormal)
    assert dict(TaskSet(named)) == dict(named)
    assert 'b' in named and 'normal' not in named and named.get('normal') is None


def test_what_is_refused(tasks, output):
    with pytest.raises(ValueError, match='same name: found depth, depth; expected one task for each'):
        TaskSet([Depth(), dict(type='Depth', max_depth=5.0)])
    with pytest.raises(ValueError, match='same field: found gt_depth_map, gt_depth_map'):
        TaskSet(dict(near=Depth(), far=Depth(80.0, 256.0)))
    for nothing in ([], {}):
        with pytest.raises(ValueError, match='holds no tasks'):
            TaskSet(nothing)
    for other in (['depth'], [None], dict(depth='Depth'), [dict(type='GivenLabel')]):
        with pytest.raises((TypeError, KeyError)):
            TaskSet(other)
    with pytest.raises(KeyError, match="no task 'edges'; known: semantic_segmentation, depth, normal"):
        tasks['edges']
    with pytest.raises(ValueError, match='one task was expected, found semantic_segmentation, depth, normal'):
        _ = tasks.only
    with pytest.raises(
        ValueError, match=r'expected 8 channels = 3 \(semantic_segmentation\) \+ 1 \(depth\) \+ 4 \(norm'
    ):
        tasks.split(output[:, :7])


# Outputs.


def test_split_gives_each_task_its_channels(tasks, output):
    assert tasks.channels == 8
    parts = tasks.split(output)
    assert list(parts) == ['semantic_segmentation', 'depth', 'normal']
    for part, (first, last) in zip(parts.values(), ((0, 3), (3, 4), (4, 8)), strict=True):
        assert torch.equal(part, output[:, first:last])
    assert [part.shape[1] for part in tasks.split(torch.zeros(1, 8)).values()] == [3, 1, 4], 'also without a size'


def test_outputs_are_mirrored_and_resized_by_each_task(tasks, output):
    alone = [SemanticSegmentation(3), Depth(), SurfaceNormal(kappa=True)]
    parts = [output[:, :3], output[:, 3:4], output[:, 4:]]
    mirrored = tasks.flip_output(output)
    expected = output.flip(-1)
    expected[:, 4] *= -1  # x of the normals
    assert torch.equal(mirrored, expected)
    assert torch.equal(tasks.flip_output(mirrored), output)
    for size, corners in (((10, 12), False), ((3, 4), True), (SIZE, False)):
        found = tasks.resize_output(output, size, align_corners=corners)
        each = [task.resize_output(part, size, corners) for task, part in zip(alone, parts, strict=True)]
        assert torch.equal(found, torch.cat(each, dim=1)) and found.shape == (2, 8, *size)
        torch.testing.assert_close(found[:, 4:7].norm(dim=1), torch.ones(2, *size))


def test_one_task_is_a_set_of_one(output):
    for task in (SemanticSegmentation(3), Depth(), SurfaceNormal()):
        tasks, part = TaskSet(task), output[:, : task.channels]
        assert torch.equal(tasks.split(part)[task.name], part)
        assert torch.equal(tasks.flip_output(part), task.flip_output(part))
        assert torch.equal(tasks.resize_output(part, (7, 7)), task.resize_output(part, (7, 7)))


# Targets.


def test_completed_says_nothing_where_a_target_is_missing(tasks):
    depth, classes = torch.full((1, *SIZE), 2.5), torch.ones(1, *SIZE, dtype=torch.int64)
    samples = [sample(gt_depth_map=depth), sample(gt_sem_seg=classes)]
    first, second = tasks.completed(samples, SIZE)
    assert torch.equal(first.gt_depth_map.data, depth) and torch.equal(second.gt_sem_seg.data, classes)
    assert first.gt_sem_seg.data.dtype == torch.int64 and first.gt_sem_seg.data.unique().tolist() == [255]
    assert second.gt_depth_map.data.shape == (1, *SIZE) and not second.gt_depth_map.data.any()
    for each in (first, second):
        assert each.gt_normal_map.data.shape == (3, *SIZE) and not each.gt_normal_map.data.any()
        assert each.gt_normal_map.data.dtype == torch.float32 and each.metainfo['img_path'] == 'a.png'
    assert samples[0].keys() == ['gt_depth_map'] and samples[1].keys() == ['gt_sem_seg'], 'the samples stay as they are'
    # On the device of the images: a batch may not lie on two.
    (elsewhere,) = tasks.completed([samples[1]], SIZE, torch.device('meta'))
    assert elsewhere.gt_depth_map.data.device.type == 'meta' and elsewhere.gt_sem_seg.data.device.type == 'cpu'
    assert [after is before for after, before in zip(tasks.completed([first], SIZE), [first], strict=True)] == [True]


def test_targets_are_stacked_in_the_type_of_the_task(tasks):
    depth = torch.arange(30, dtype=torch.float64).view(1, *SIZE)
    samples = [sample(), sample(gt_depth_map=depth), sample(gt_sem_seg=torch.full((1, *SIZE), 2, dtype=torch.uint8))]
    targets = tasks.targets(samples, SIZE)
    assert {name: (tuple(each.shape), each.dtype) for name, each in targets.items()} == dict(
        semantic_segmentation=((3, 1, *SIZE), torch.int64),
        depth=((3, 1, *SIZE), torch.float32),
        normal=((3, 3, *SIZE), torch.float32),
    )
    assert torch.equal(targets['depth'], torch.stack([torch.zeros(1, *SIZE), depth.float(), torch.zeros(1, *SIZE)]))
    assert [each.unique().tolist() for each in targets['semantic_segmentation']] == [[255], [255], [2]]
    assert not targets['normal'].any()
    assert torch.equal(stacked_targets(Depth(), samples), targets['depth']), 'the size is that of the others'
    with pytest.raises(ValueError, match='none of the 3 samples has gt_normal_map, and no size is known'):
        stacked_targets(SurfaceNormal(), samples)


# What every task answers about its maps.


def a_map(task, rng):
    if task.name == 'semantic_segmentation':
        array = rng.integers(0, task.num_classes, SIZE, dtype=np.uint8)
        array[0, 0] = task.ignore_index
        return array
    if task.name == 'depth':
        array = rng.uniform(0.5, 9, SIZE).astype(np.float32)
    else:
        array = rng.normal(size=(*SIZE, 3)).astype(np.float32)
        array /= np.linalg.norm(array, axis=-1, keepdims=True)
    array[0, 0] = 0
    return array


@pytest.mark.parametrize(
    'task',
    [SemanticSegmentation(3), SemanticSegmentation(11, ignore_index=11), Depth(), SurfaceNormal(), SurfaceNormal(True)],
    ids=str,
)
def test_maps_and_targets_are_two_forms_of_one_thing(task):
    array = a_map(task, np.random.default_rng(0))
    target = task.to_target(array)
    assert target.shape == (task.target_channels, *SIZE) and target.dtype == task.target_dtype
    back = task.to_map(target)
    assert back.dtype == array.dtype and back.flags.c_contiguous
    np.testing.assert_array_equal(back, array)
    values = array[2, 3] if array.ndim == 3 else [array[2, 3]]
    assert target[:, 2, 3].tolist() == [float(value) for value in values]
    expected = np.ones(SIZE, bool)
    expected[0, 0] = False
    np.testing.assert_array_equal(task.known(array), expected)
    np.testing.assert_array_equal(task.known(array), task.valid(target[None])[0, 0].numpy())
    nothing = task.unknown(SIZE)
    assert nothing.dtype == array.dtype and nothing.shape == array.shape and not task.known(nothing).any()
    assert torch.equal(task.to_target(nothing), task.unknown_target(SIZE))


def test_predictions_stand_in_a_sample_under_their_names(output):
    parts = TaskSet([SemanticSegmentation(3), Depth(), SurfaceNormal(kappa=True)])
    found = SegDataSample()
    for name, part in parts.split(output[:1]).items():
        task = parts[name]
        found.set_data({key: PixelData(data=data) for key, data in task.predictions(part[0]).items()})
        assert torch.equal(task.output_of(found), part[0])
    assert sorted(found.keys()) == ['pred_depth_map', 'pred_normal_map', 'pred_sem_seg', 'seg_logits']
    assert torch.equal(found.pred_sem_seg.data[0], output[0, :3].argmax(0))
    assert [task.weight_field for task in parts.values()] == [
        'gt_sem_seg_weight', 'gt_depth_map_weight', 'gt_normal_map_weight',
    ]  # fmt: skip
