"""A task that the package does not know is checked, reported and drawn: it is one class and a config."""

import cv2
import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import TASK_UTILS

import mmdiff2in1.components  # noqa: F401  registers the transforms
from mmdiff2in1.checks.check_datasets import check_datasets
from mmdiff2in1.checks.data_check import check_data
from mmdiff2in1.checks.pictures import dataset_pictures
from mmdiff2in1.checks.report import report_text
from mmdiff2in1.core.problem import Problem
from mmdiff2in1.tasks import Depth
from mmdiff2in1.tasks.base import DenseTask, nearest

H, W = 36, 48


class Heat(DenseTask):
    """Degrees above 0, in files as they are; 0 where not known."""

    name, field, path_key = 'heat', 'gt_heat_map', 'heat_map_path'
    channels, invalid = 1, 0.0

    def __init__(self, hottest=100):
        self.hottest = hottest

    def activate(self, logits):
        return logits.relu()

    def pseudo_label(self, output):
        return output, None

    def valid(self, target):
        return target > 0

    def encode(self, array):
        return array.astype(np.uint8)

    def decode(self, array):
        if array.ndim != 2:
            raise ValueError('heat: found colours')
        return array.astype(np.float32)

    def resize(self, array, size):
        return nearest(array, size)

    def colours(self, array):
        red = np.clip(array * (255 / self.hottest), 0, 255).round().astype(np.uint8)
        return np.stack([red, red * 0, red * 0], axis=-1)

    def file_problems(self, path, raw, array):
        if array is None or array.max() <= self.hottest:
            return []
        return [Problem('error', 'too-hot', path, f'{array.max():g}', f'at most {self.hottest}', 'Wait')]

    def inspect(self, raw, array, info):
        return float(array.max())

    def judge(self, facts, info, where):
        problem = Problem('warning', 'cold', where, f'{max(facts):g}', 'a fire', 'Heat it')
        return [f'heat: at most {max(facts):g} in {len(facts)} maps'], [problem] if max(facts) < 10 else []

    loss = metric = property(lambda self: {})


@pytest.fixture
def config(tmp_path):
    """Writes two images with maps of heat, half of each known, and gives the config of their set."""
    init_default_scope('mmseg')
    TASK_UTILS.register_module(module=Heat)
    random = np.random.default_rng(0)
    for folder in ('images', 'heat', 'depth'):
        (tmp_path / folder).mkdir()

    def write(hottest, settings=None, **prefix):
        for number in range(2):
            image = random.integers(0, 256, (H, W, 3), np.uint8)
            heat = np.zeros((H, W), np.uint8)
            heat[: H // 2] = hottest
            cv2.imwrite(str(tmp_path / f'images/{number}.png'), image)
            cv2.imwrite(str(tmp_path / f'heat/{number}.png'), heat)
            cv2.imwrite(str(tmp_path / f'depth/{number}.png'), Depth().encode(np.full((H, W), 2.0)))
        pipeline = [dict(type='LoadImageFromFile')]
        if settings is not None:
            pipeline.append(dict(type='LoadDenseAnnotation', task=dict(type='Heat', **settings)))
        prefix = dict(img_path='images', heat_map_path='heat') | prefix
        dataset = dict(type='DenseMapDataset', data_root=str(tmp_path), data_prefix=prefix, pipeline=pipeline)
        return ConfigDict(train_dataloader=dict(dataset=dataset))

    yield write
    TASK_UTILS.module_dict.pop('Heat')


def checked(cfg):
    report, parts = check_datasets(cfg, workers=1, progress=False)
    found = [problem for severity in ('error', 'warning') for _, problem in report.problems(severity)]
    return report, parts, found


@pytest.mark.parametrize('settings', [None, {}])
def test_a_clean_set(config, settings):
    cfg = config(80, settings)
    check_data(cfg)
    report, _, problems = checked(cfg)
    assert not problems
    assert report.parts[0].known == {'heat': 0.5} and report.parts[0].notes == ['heat: at most 80 in 2 maps']
    assert 'heat: 50.0% of the pixels hold a value' in report_text(report)


def test_what_the_task_says_of_a_file_stops_the_training(config):
    cfg = config(120)
    with pytest.raises(ValueError, match=r'heat/0\.png: found 120; expected at most 100\. Wait'):
        check_data(cfg)
    assert [(problem.check, problem.severity) for problem in checked(cfg)[2]] == [('too-hot', 'error')] * 2
    check_data(config(120, dict(hottest=150)))  # as the pipeline has it


def test_what_the_task_says_of_a_set_is_a_warning(config):
    (problem,) = checked(config(5))[2]
    assert (problem.check, problem.found) == ('cold', '5') and problem.file.endswith('/heat')


def test_each_label_is_drawn(config):
    """A row of 7 × 36 pixels, its caption, 8 pixels of margin for each label; the map's colours lie over the image."""
    _, parts, _ = checked(config(100))
    one = dataset_pictures(parts, None, 1).astype(int)
    image, over = (one[42 : 42 + 252, x : x + 336] for x in (8, 8 + 368 - 24))
    expected = image * 0.45
    expected[:126, :, 0] += 255 * 0.55
    expected[126:] = image[126:] * 0.4
    assert np.abs(over - expected).max() <= 1
    _, parts, problems = checked(config(100, depth_map_path='depth'))
    two = dataset_pictures(parts, None, 1).astype(int)
    assert not problems and two.shape[0] - one.shape[0] >= 252 + 8
    starts = [y for y in range(two.shape[0] - 252) if (two[y : y + 252, 8 : 8 + 336] == two[42:294, 8:344]).all()]
    assert len(starts) == 2
