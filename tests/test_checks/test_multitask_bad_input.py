"""What users get wrong with several tasks ends in one message before a training begins: found, expected, next step.

Each case goes through the data set itself, the checker of all files, and the check that every training starts with.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from tiny_multitask import box, write, write_nyud, write_parts, write_pascal

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.checks.check_datasets import check_datasets
from mmdiff2in1.checks.data_check import check_data

ROOT = Path(__file__).resolve().parents[2]
NYUD, PASCAL = 'invpt_nyud-mt-edge', 'invpt_pascal-context-edge'


def prepared(root, name):
    init_default_scope('mmseg')
    (write_nyud if 'nyud' in name else write_pascal)(root, 3, 1)
    cfg = Config.fromfile(ROOT / f'configs/baselines/{name}.py', format_python_code=False)
    for loader in ('train', 'val', 'test'):
        cfg[f'{loader}_dataloader'].dataset.data_root = str(root)
    return cfg


def loaded(cfg):
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return [dataset[index] for index in range(len(dataset))]


def errors(cfg):
    """Check → the first problem of that kind in all files of the training set, or in the config."""
    report, _ = check_datasets(cfg, workers=1, progress=False)
    found = {}
    for part, problem in report.problems('error'):
        if part in ('train', 'config'):
            found.setdefault(problem.check, problem)
    return found


def change(folder, how, all_of_them=False):
    """A file, or all files, of a folder written anew."""

    def changed(root):
        files = sorted((root / folder).iterdir())
        for file in files if all_of_them else files[:1]:
            write(file, how(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)))

    return changed


def broken(folder, keep=60):
    def changed(root):
        file = min((root / folder).iterdir())
        file.write_bytes(file.read_bytes()[:keep])

    return changed


def mat(folder, **content):
    return lambda root: scipy.io.savemat(min((root / folder).iterdir()), content)


def small_parts(root):
    mask = box(2, 9, 2, 9, (20, 20))
    write_parts(root / 'human_parts/2008_000000.mat', ('person', 15, mask, dict(head=mask)))


def without_labels(root):
    for folder in ('segmentation', 'depth', 'normals', 'edge'):
        (root / folder / '0001.png').with_suffix('.npy' if folder == 'depth' else '.png').unlink()
    (root / 'images/0001.png').unlink()


FILES = {
    # name: (config, what is wrong, what the data set says or None, the checker's kind, what both checks say)
    '41 classes': (
        NYUD,
        change('segmentation', lambda a: np.full_like(a, 41)),
        None,  # mmseg's loader takes any number
        'label-values',
        r'segmentation/0001.png: found label values \[40\] .*; expected 0 … 39 or 255',
    ),
    'classes of another size': (
        NYUD,
        change('segmentation', lambda a: a[:20]),
        r'segmentation/0001.png: found a map of 20×56 .*, expected 40×56, the size of .*images/0001.png; check',
        'size',
        r'segmentation/0001.png: found 20×56 .*; expected 40×56, the size of its image',
    ),
    'parts of another size': (
        PASCAL,
        small_parts,
        r'human_parts/2008_000000.mat: found a map of 20×20 .*, expected 40×56',
        'size',
        r'2008_000000.mat: found 20×20 .*; expected 40×56',
    ),
    'a file without anno': (
        PASCAL,
        mat('human_parts', x=1),
        "2008_000000.mat: expected the variable 'anno' in the MATLAB file, found x",
        'unreadable',
        "human_parts/2008_000000.mat: found expected the variable 'anno'",
    ),
    'a file without LabelMap': (
        PASCAL,
        mat('pascal-context/trainval', x=1),
        r"its labels .*trainval/2008_000000.mat: expected the variable 'LabelMap'",
        'unreadable',
        r"trainval/2008_000000.mat: expected the variable 'LabelMap'",
    ),
    'half a MATLAB file': (
        PASCAL,
        broken('human_parts', 200),
        r'2008_000000.mat: expected a MATLAB file up to version 7, found',
        'unreadable',
        r'2008_000000.mat: found .*; expected a whole file of the format pascal_parts',
    ),
    'half a class map': (
        NYUD,
        broken('segmentation'),
        r'segmentation/0001.png: expected a whole label file, found: .*; unpack it again',
        'unreadable',
        r'segmentation/0001.png: found .*; expected a whole image file. Copy or unpack',
    ),
    'half a depth map': (
        NYUD,
        broken('depth', 100),
        r'depth/0001.npy: ',
        'unreadable',
        r'depth/0001.npy: found .*; expected a whole .npy file. Copy or unpack',
    ),
    'an image that is not there and no label of it': (
        NYUD,
        without_labels,
        r'images/0001.png: found no such file, expected the img_path of a sample; 1 of 3',
        'list-line',
        r'gt_sets/train.txt:1: found .0001., which leads to no file .*images/0001.png.; expected .* Add the',
    ),
    'an empty list': (
        NYUD,
        lambda root: (root / 'gt_sets/train.txt').write_text('\n'),
        r'gt_sets/train.txt: found no images, expected \*.png',
        'not-built',
        r'gt_sets/train.txt: found no images, expected \*.png',
    ),
    'edges of 0 and 1': (
        NYUD,
        change('edge', lambda a: (a > 0).astype(np.uint8), True),
        None,
        'no-edges',
        r'edge: found no edge in any map; expected lines of 255. Look at the files: 255 is an edge, not 1',
    ),
    'edges on white': (
        NYUD,
        change('edge', lambda a: 255 - a, True),
        None,
        'all-edges',
        r'edge: found edges on \d+% of the pixels; expected lines of 255 on 0',
    ),
    'saliency of 0 and 1': (
        PASCAL,
        change('sal_distill', lambda a: (a > 127).astype(np.uint8)),
        r'2008_000000.png: saliency: the file holds 0 and 1, expected grey 0 … 255',
        'unreadable',
        r'saliency: the file holds 0 and 1, expected grey 0 … 255',
    ),
    'saliency that ignores 255': (
        PASCAL,
        change('sal_distill', lambda a: np.where(a > 200, 255, a > 127).astype(np.uint8)),
        r'holds 0, 1 and 255, expected grey 0 … 255: if 1 is salient .* leave saliency_map_path out of label_formats',
        'unreadable',
        r'holds 0, 1 and 255, expected grey',
    ),
}


@pytest.mark.parametrize('case', FILES)
def test_files(tmp_path, case):
    name, spoil, of_the_set, check, told = FILES[case]
    cfg = prepared(tmp_path, name)
    spoil(tmp_path)
    if of_the_set is None:
        loaded(cfg)
    else:
        with pytest.raises((ValueError, FileNotFoundError), match=of_the_set):
            loaded(cfg)
    found = errors(cfg)
    assert check in found and set(found) <= {check, 'size'}
    with pytest.raises((ValueError, FileNotFoundError), match=told) as raised:
        check_data(cfg)
    assert len(str(raised.value).splitlines()) == 1


def twice(kind, **settings):
    def changed(cfg):
        steps = cfg.train_dataloader.dataset.pipeline
        cfg.train_dataloader.dataset.pipeline = [*steps[:5], dict(type=kind, **settings), *steps[5:]]

    return changed


def options(**changes):
    return lambda cfg: cfg.merge_from_dict(changes)


def not_loaded(cfg):
    steps = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = [step for step in steps if step.get('task', {}).get('type') != 'Depth']


CONFIGS = {
    'fewer classes than the set': (
        options(**{'model.decode_head.tasks.semantic_segmentation.num_classes': 21}),
        r'decode_head.num_classes: found 21; expected 40, the classes of NYUDMTDataset. Set decode_head.num_classes=40',
    ),
    'a task that nothing is loaded for': (
        not_loaded,
        r'model.task: found the task depth, whose labels no step of train_dataloader loads; expected tasks that are '
        r"loaded. Add dict\(type='LoadDenseAnnotation'",
    ),
    'depth loaded twice': (
        twice('LoadDenseAnnotation', task=dict(type='Depth')),
        r'train_dataloader: found depth loaded twice; expected one step that loads it. Take the second',
    ),
    'classes loaded twice': (
        twice('LoadClassAnnotation'),
        r'found semantic_segmentation loaded twice',
    ),
    'a task that is named twice': (
        options(**{'train_dataloader.dataset.tasks': ['depth', 'depth']}),
        r"tasks=\['depth', 'depth'\]: expected a list of some of semantic_segmentation, depth, normal, edge, each once",
    ),
    'a misspelt task': (
        options(**{'train_dataloader.dataset.tasks': ['depht']}),
        r"tasks=\['depht'\]: expected a list of some of semantic_segmentation, depth",
    ),
    'one task without a list': (
        options(**{'train_dataloader.dataset.tasks': 'depth'}),
        r"tasks='depth': expected a list of some of",
    ),
    'a misspelt task of the pipeline': (
        options(**{'train_dataloader.dataset.pipeline.2.task.type': 'Depht'}),
        r"found the task 'Depht', expected one of .*Depth.*; correct its name",
    ),
    'a misspelt task of the model': (
        options(**{'model.task.depth.type': 'Depht'}),
        r"found the task 'Depht', expected one of .*Depth.*; correct its name",
    ),
}


@pytest.mark.parametrize('case', CONFIGS)
def test_configs(tmp_path, case):
    cfg = prepared(tmp_path, NYUD)
    spoil, told = CONFIGS[case]
    check_data(cfg)  # nothing is wrong yet
    spoil(cfg)
    with pytest.raises(ValueError, match=told):
        check_data(cfg)


def test_a_map_loaded_twice_is_refused_by_the_loader(tmp_path):
    """A mirror would turn it back: the map of a mirrored image would not be mirrored."""
    cfg = prepared(tmp_path, NYUD)
    twice('LoadDenseAnnotation', task=dict(type='SurfaceNormal'))(cfg)
    with pytest.raises(ValueError, match='gt_normal_map is there already, expected one step that loads it'):
        loaded(cfg)


@pytest.mark.parametrize('ignored', [True, False])
def test_saliency_masks_of_0_and_255_as_plain_maps(tmp_path, ignored):
    """All that is salient is ignored: the loss would be of background alone."""
    cfg = prepared(tmp_path, PASCAL)
    change('sal_distill', lambda a: np.where(a > 127, 255 if ignored else 1, 0).astype(np.uint8), True)(tmp_path)
    formats = dict(
        human_parts_map_path='pascal_parts', edge_map_path='label_map_edges', normal_map_path='context_normals'
    )
    for loader in ('train', 'val', 'test'):
        cfg[f'{loader}_dataloader'].dataset.label_formats = formats
    if not ignored:
        assert not errors(cfg)
        return
    with pytest.raises(ValueError, match='nothing salient in any of the 3 maps read, but 255, which says nothing') as e:
        check_data(cfg)
    assert "label_formats={'saliency_map_path': 'grey_saliency'}" in str(e.value)
    found = errors(cfg)
    assert list(found) == ['no-saliency']
