"""A label that is loaded and that no data set gives is told before the training; sets with different tasks are fine."""

import cv2
import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

import mmdiff2in1.components  # noqa: F401  registers the transforms
from mmdiff2in1.checks.check_datasets import check_datasets
from mmdiff2in1.checks.data_check import check_data
from mmdiff2in1.checks.settings import class_head
from mmdiff2in1.datasets.scenes import make_scenes

DEPTH, NORMAL = (dict(type='LoadDenseAnnotation', task=dict(type=kind)) for kind in ('Depth', 'SurfaceNormal'))
CLASSES = dict(type='LoadClassAnnotation')
FOLDERS = dict(seg_map_path='semantic', depth_map_path='depth', normal_map_path='normal')

KEYS = ['classes', 'palette', 'reduce_zero_label']


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Three rendered rooms for training, two for validation, with all labels."""
    folder = tmp_path_factory.mktemp('scenes')
    make_scenes(folder, {'train': 3, 'val': 2}, size=32, workers=1, progress=False)
    return folder


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def rooms(root, *steps, part='train', kind='DenseMapDataset', **prefix):
    """A data set with the label folders of `prefix`, key → folder, whose pipeline has `steps`."""
    prefix = dict(img_path=f'{part}/images') | {key: f'{part}/{folder}' for key, folder in prefix.items()}
    return dict(type=kind, data_root=str(root), data_prefix=prefix, pipeline=[dict(type='LoadImageFromFile'), *steps])


def config(*train, val=None):
    cfg = dict(train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=list(train), ignore_keys=KEYS)))
    return ConfigDict(cfg | (dict(val_dataloader=dict(dataset=val)) if val else {}))


def told(cfg):
    """(severity, problem) of the labels that are not given, in the report."""
    report = check_datasets(cfg, workers=1, progress=False)[0]
    problems = [(s, problem) for s in ('error', 'warning') for _, problem in report.problems(s)]
    return [(severity, problem) for severity, problem in problems if problem.check == 'no-labels']


def test_sets_with_different_tasks_are_fine(scenes):
    depth = rooms(scenes, DEPTH, NORMAL, depth_map_path='depth')
    normal = rooms(scenes, DEPTH, NORMAL, normal_map_path='normal')
    cfg = config(depth, normal)
    check_data(cfg)
    assert not told(cfg)
    report = check_datasets(cfg, workers=1, progress=False)[0]
    assert [list(part.known) for part in report.parts] == [['depth'], ['normal']]
    assert not report.problems('error')


@pytest.mark.parametrize('misspelt', ['depht_map_path', 'depth_path'])
def test_a_misspelt_prefix(scenes, misspelt):
    cfg = config(
        rooms(scenes, DEPTH, NORMAL, **{misspelt: 'depth'}), rooms(scenes, DEPTH, NORMAL, normal_map_path='normal')
    )
    given = misspelt if misspelt.endswith('_map_path') else 'no labels'
    found = (
        f'no depth_map_path in any sample of train 1 (DenseMapDataset, gives {given}), '
        'train 2 (DenseMapDataset, gives normal_map_path); depth is loaded'
    )
    with pytest.raises(ValueError, match='no depth_map_path in any sample') as error:
        check_data(cfg)
    assert found in str(error.value) and 'data_prefix.depth_map_path (is the key misspelt?)' in str(error.value)
    errors = [problem for severity, problem in told(cfg) if severity == 'error']
    assert [problem.found for problem in errors] == [found]
    assert errors[0].expected == 'depth_map_path from at least one training set'


def test_a_set_of_a_mix_without_any_label_is_a_warning(scenes):
    cfg = config(rooms(scenes, DEPTH, depth_map_path='depth'), rooms(scenes, DEPTH))
    check_data(cfg)
    ((severity, problem),) = told(cfg)
    assert severity == 'warning' and problem.found.startswith('train 2 (DenseMapDataset, gives no labels)')


def test_classes_and_depth(scenes):
    """mmseg's own loader stops at an image without a file, this package's does not."""
    classes = rooms(scenes, CLASSES, DEPTH, kind='ScenesDataset', seg_map_path='semantic')
    depth = rooms(scenes, CLASSES, DEPTH, depth_map_path='depth')
    check_data(config(classes, depth))
    assert not told(config(classes, depth))
    depth['pipeline'][1] = dict(type='LoadAnnotations')
    with pytest.raises(ValueError, match='expected seg_map_path from each set: mmseg stops'):
        check_data(config(classes, depth))


def test_steps_inside_other_steps_count(scenes):
    inner = dict(type='RandomChoice', transforms=[[DEPTH], [NORMAL]])
    check_data(config(rooms(scenes, inner, depth_map_path='depth', normal_map_path='normal')))
    with pytest.raises(ValueError, match='no normal_map_path .*; normal is loaded'):
        check_data(config(rooms(scenes, inner, depth_map_path='depth')))


def test_evaluation_without_labels(scenes):
    train = rooms(scenes, DEPTH, NORMAL, depth_map_path='depth', normal_map_path='normal')
    cfg = config(train, val=rooms(scenes, DEPTH, NORMAL, part='val'))
    with pytest.raises(ValueError, match='val_dataloader: found no depth_map_path .* a set that is scored on it'):
        check_data(cfg)
    assert [(severity, problem.file) for severity, problem in told(cfg)] == [('error', 'val_dataloader')] * 2
    cfg = config(train, val=rooms(scenes, DEPTH, NORMAL, part='val', depth_map_path='depth'))
    check_data(cfg)
    ((severity, problem),) = told(cfg)
    assert severity == 'warning' and problem.found.endswith('gives depth_map_path); normal is loaded')
    assert not told(config(train, val=rooms(scenes, part='val')))  # nothing is loaded: nothing is scored


def test_a_training_set_whose_pipeline_says_nothing(scenes):
    (told_of,) = told(config(rooms(scenes)))
    assert told_of[0] == 'error' and told_of[1].found == 'a training set without labels'
    assert not told(config(rooms(scenes, depth_map_path='depth')))


def test_only_what_is_loaded_stops_a_training(scenes, tmp_path):
    """Class labels of another kind, which a training of depth does not read."""
    for folder in ('images', 'depth', 'semantic'):
        (tmp_path / 'train' / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'train/images/0.png'), np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'train/depth/0.png'), np.full((32, 32), 2000, np.uint16))
    cv2.imwrite(str(tmp_path / 'train/semantic/0.png'), np.full((32, 32), 99, np.uint8))
    both = dict(depth_map_path='depth', seg_map_path='semantic')
    check_data(config(rooms(tmp_path, DEPTH, kind='ScenesDataset', **both)))
    with pytest.raises(ValueError, match=r'label values \[99\]; expected 0 … 10'):
        check_data(config(rooms(tmp_path, DEPTH, CLASSES, kind='ScenesDataset', **both)))


def nyu(root, factor, *steps):
    """mmseg's own depth set and loader."""
    load = dict(type='LoadDepthAnnotation', depth_rescale_factor=factor)
    prefix = dict(img_path='images', depth_map_path='annotations')
    dataset = dict(type='NYUDataset', data_root=str(root), data_prefix=prefix, img_suffix='.png')
    pipeline = [dict(type='LoadImageFromFile'), load, *steps]
    model = dict(type='DepthEstimator', decode_head=dict(type='VPDDepthHead', max_depth=10.0))
    return ConfigDict(train_dataloader=dict(dataset=dataset | dict(pipeline=pipeline)), model=model)


def test_mmsegs_depth_is_depth(tmp_path):
    """Units of 1/5000 m, as `depth_rescale_factor` says; the classes of the set are kinds of rooms."""
    for folder in ('images', 'annotations'):
        (tmp_path / folder).mkdir()
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 256, (36, 48, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'images/office_{number}.png'), image)
        cv2.imwrite(str(tmp_path / f'annotations/office_{number}.png'), np.full((36, 48), 12500, np.uint16))
    cfg = nyu(tmp_path, 2e-4)
    check_data(cfg)
    report = check_datasets(cfg, workers=1, progress=False)[0]
    assert not report.problems('error') and not report.problems('warning')
    assert report.parts[0].notes == ['depth: median of an image 2.5 m'] and not report.parts[0].shares
    wrong = check_datasets(nyu(tmp_path, 1.0), workers=1, progress=False)[0].problems('warning')
    assert [problem.check for _, problem in wrong] == ['depth-unit'] and '1.25e+04 m' in wrong[0][1].found
    with pytest.raises(ValueError, match='no seg_map_path in any sample .*; semantic_segmentation is loaded'):
        check_data(nyu(tmp_path, 2e-4, dict(type='LoadAnnotations')))
    cv2.imwrite(str(tmp_path / 'annotations/office_0.png'), np.full((36, 48), 9, np.uint8))
    with pytest.raises(ValueError, match='a picture of depth, 1 values; expected 16-bit millimetres'):
        check_data(cfg)


TASKS = dict(classes=dict(type='SemanticSegmentation', num_classes=7, ignore_index=9), depth=dict(type='Depth'))
HEADS = dict(classes=dict(type='FCNHead', num_classes=7, ignore_index=9), depth=dict(type='DenseTaskHead'))
MANY = dict(type='TaskHeads', tasks=TASKS, heads=HEADS)


@pytest.mark.parametrize(
    ('model', 'num_classes', 'ignore_index'),
    [
        (None, None, None),
        (dict(decode_head=dict(num_classes=5)), 5, None),
        (dict(decode_head=[dict(num_classes=5), dict(num_classes=6)]), 6, None),
        (dict(segmentor=dict(decode_head=dict(type='GenerativeDecodeHead', head=dict(num_classes=5)))), 5, None),
        (dict(decode_head=MANY), 7, 9),
        (dict(segmentor=dict(decode_head=dict(type='GenerativeDecodeHead', head=MANY))), 7, 9),
        (dict(task=TASKS, decode_head=dict(type='AnyHead', channels=8)), 7, 9),
        (dict(task=list(TASKS.values()), decode_head=dict(type='AnyHead', num_classes=8)), 7, 9),
        (dict(task=TASKS['classes'], decode_head=dict(type='FCNHead', num_classes=7)), 7, None),
        (dict(decode_head=dict(type='DenseTaskHead', task=TASKS['classes'], head=dict(type='FCNHead'))), 7, 9),
        (dict(decode_head=dict(type='DenseTaskHead', task=TASKS['depth'], head=dict(type='FCNHead'))), None, None),
        (dict(task=TASKS['depth'], decode_head=dict(type='AnyHead', num_classes=1)), None, None),
    ],
)
def test_the_head_that_predicts_classes(model, num_classes, ignore_index):
    head = class_head(ConfigDict(model=model))
    assert (head.get('num_classes'), head.get('ignore_index')) == (num_classes, ignore_index)


def test_settings_of_the_class_head_among_several(scenes):
    dataset = rooms(scenes, CLASSES, DEPTH, kind='ScenesDataset', seg_map_path='semantic', depth_map_path='depth')
    cfg = config(dataset) | dict(model=ConfigDict(decode_head=MANY))
    errors = check_datasets(ConfigDict(cfg), workers=1, progress=False)[0].problems('error')
    settings = {problem.file: problem.found for part, problem in errors if part == 'config'}
    assert settings == {'decode_head.num_classes': '7', 'decode_head.ignore_index': '9'}


def test_classes_that_a_task_loads(scenes):
    """Numbers as they stand in the file, so a zero-label reduction would not happen."""
    load = dict(type='LoadDenseAnnotation', task=dict(type='SemanticSegmentation', num_classes=11))
    dataset = rooms(scenes, load, kind='ScenesDataset', seg_map_path='semantic')
    cfg = config(dataset)
    check_data(cfg)
    report = check_datasets(cfg, workers=1, progress=False)[0]
    assert not report.problems('error') and report.parts[0].known == {'semantic_segmentation': 1.0}
    (note,) = report.parts[0].notes
    assert note.startswith('semantic_segmentation: ') and note.endswith(' of 11 classes occur')
    few = dict(type='LoadDenseAnnotation', task=dict(type='SemanticSegmentation', num_classes=2))
    with pytest.raises(ValueError, match='expected classes 0 to 1 or 255'):
        check_data(config(rooms(scenes, few, kind='ScenesDataset', seg_map_path='semantic')))
    reduced = check_datasets(config(dataset | dict(reduce_zero_label=True)), workers=1, progress=False)[0]
    assert [problem.check for part, problem in reduced.problems('error')] == ['reduce-zero-label']
