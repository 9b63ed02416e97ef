"""The checker on NYUD-MT and PASCAL-Context: counts, sizes, values, frames of normals, widths of lines, what lacks."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tiny_multitask import SIZE, in_8_bits, room, write, write_nyud, write_pascal

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.checks.check_datasets import check_datasets
from mmdiff2in1.checks.data_check import check_data
from mmdiff2in1.checks.known_sets import expected_count
from mmdiff2in1.checks.pictures import dataset_pictures
from mmdiff2in1.checks.report import report_text
from mmdiff2in1.datasets import NYUDMTDataset, PASCALContextMTDataset
from mmdiff2in1.tasks import Edges

ROOT = Path(__file__).resolve().parents[2]


def config(name, root):
    """A data base whose sets lie in a folder."""
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
    for loader in ('train', 'val', 'test'):
        cfg[f'{loader}_dataloader'].dataset.data_root = str(root)
    return cfg


def problems(cfg, *ignored):
    """By check; the counts and classes of a handful of images are never right."""
    found, parts = check_datasets(cfg, workers=2, progress=False)
    ignored = ('count', 'absent-classes', *ignored)
    every = [problem for _, problem in (*found.problems('error'), *found.problems('warning'))]
    return {problem.check: problem for problem in every if problem.check not in ignored}, found, parts


def test_counts_are_those_of_the_lists(tmp_path):
    nyud, pascal = write_nyud(tmp_path / 'nyud', 1, 1), write_pascal(tmp_path / 'pascal', 1, 1)
    for kind, root, train, val in ((NYUDMTDataset, nyud, 795, 654), (PASCALContextMTDataset, pascal, 4998, 5105)):
        for part, number in (('train', train), ('val', val)):
            found = expected_count(kind(part=part, data_root=str(root)), 'test', 1)
            assert found == (number, 'the published list of that name')
    _, found, _ = problems(config('nyud-mt', nyud))
    (count,) = [problem for part, problem in found.problems('warning') if problem.check == 'count' and part == 'train']
    assert count.found == '1 images' and count.expected.startswith('795')


@pytest.mark.parametrize('name', ['nyud-mt-edge', 'pascal-context-edge'])
def test_a_clean_set_is_left_in_peace(tmp_path, name):
    root = (write_nyud if name.startswith('nyud') else write_pascal)(tmp_path)
    cfg = config(name, root)
    found, report, parts = problems(cfg)
    assert not found
    known = dict(report.parts[0].known)
    if name.startswith('nyud'):
        assert known == pytest.approx(dict(depth=38 / 40, normal=37 / 40, edge=1.0))
    else:
        assert sorted(known) == ['edge', 'human_parts', 'normal', 'saliency'] and known['human_parts'] == 1.0
    assert 'edges: 0.' in report_text(report)
    check_data(cfg)
    assert dataset_pictures(parts, None, 2) is not None


def test_lines_of_two_pixels(tmp_path):
    root = write_nyud(tmp_path, 2, 1)
    for file in (root / 'edge').iterdir():
        thin = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        write(file, cv2.dilate(thin, np.ones((2, 2), np.uint8)))
    found, _, _ = problems(config('nyud-mt-edge', root))
    assert list(found) == ['edge-width']
    assert 'has two contours' in found['edge-width'].next_step and found['edge-width'].file == str(root / 'edge')
    for file in (root / 'edge').iterdir():
        write(file, (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) > 0).astype(np.uint8))
    assert list(problems(config('nyud-mt-edge', root))[0]) == ['no-edges']


def test_width_in_closed_form():
    """A line of one pixel has no block, one of two has nothing else; a junction of two thin lines has none either."""
    task, edges = Edges(), np.zeros((8, 9), np.uint8)
    edges[3], edges[:, 4] = 255, 255
    assert task.inspect(edges, task.decode(edges), {}) == (16, 0, 0, 72)
    edges[4] = 255
    assert task.inspect(edges, task.decode(edges), {}) == (24, 18, 0, 72)
    edges[:] = 255
    assert task.inspect(edges, task.decode(edges), {}) == (72, 72, 0, 72)


def test_normals_in_another_frame(tmp_path):
    root = write_nyud(tmp_path, 5, 1)
    for number in range(5):
        write(root / f'normals/{number + 1:04d}.png', in_8_bits(-room(number)[3]))
    cfg = config('nyud-mt', root)
    found, _, _ = problems(cfg)
    assert list(found) == ['label-axes'] and "Set label_axes=('-x', '-y', '-z')" in found['label-axes'].next_step
    for loader in ('train', 'val', 'test'):
        cfg[f'{loader}_dataloader'].dataset.label_axes = ('-x', '-y', '-z')
    found, _, parts = problems(cfg, 'label-axes')  # the one image of val is as it was
    assert not found
    sheet = dataset_pictures(parts[:1], None, 1)
    cfg.train_dataloader.dataset.tasks = ('semantic_segmentation', 'normal')
    fewer = dataset_pictures(problems(cfg, 'label-axes', 'no-labels')[2][:1], None, 1)
    assert sheet.shape[0] > fewer.shape[0], 'the frame of the normals does not take the depth off the sheet'


def test_labels_that_lack_values_that_are_wrong_and_other_sizes(tmp_path):
    root = write_pascal(tmp_path, 4, 1)
    (root / 'human_parts/2008_000001.mat').unlink()
    write(root / 'semseg/VOC12/2008_000000.png', np.full(SIZE, 33, np.uint8))
    write(root / 'sal_distill/2008_000001.png', np.full((40, 55), 200, np.uint8))
    scipy.io.savemat(root / 'human_parts/2008_000002.mat', dict(parts=1))
    found, report, _ = problems(config('pascal-context', root))
    assert sorted(found) == ['label-values', 'lacking-labels', 'size', 'unreadable']
    assert found['lacking-labels'].found == 'no human_parts_map_path of 1 of 4 images'
    assert 'label values [33]' in found['label-values'].found
    assert found['size'].file.endswith('sal_distill/2008_000001.png')
    assert found['unreadable'].file.endswith('2008_000002.mat') and "variable 'anno'" in found['unreadable'].found
    assert found['unreadable'].expected == 'a whole file of the format pascal_parts'
    with pytest.raises(ValueError, match=r'found label values \[33\]'):
        check_data(config('pascal-context', root))


def test_a_task_without_labels_and_a_folder_that_is_not_there(tmp_path):
    root = write_nyud(tmp_path, 2, 1)
    for file in (root / 'depth').iterdir():
        file.unlink()
    found, _, _ = problems(config('nyud-mt', root))
    assert 'found no depth_map_path of any of the ' in found['not-built'].found
    (root / 'depth').rmdir()
    found, _, _ = problems(config('nyud-mt', root))
    assert 'Unpack NYUDv2.tar.gz of ATRC' in found['missing-folder'].next_step
