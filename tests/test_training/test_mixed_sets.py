"""The example of docs/tasks.md: NYUv2 with depth and Scenes with classes train one model, from check to validation."""

import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from tiny_nyuv2 import write_nyuv2
from tiny_tasks import segmentor

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.checks.check_datasets import check_datasets
from mmdiff2in1.checks.data_check import check_data
from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.training.chain import train_plain

PAGE = Path(__file__).parents[2] / 'docs' / 'tasks.md'
NAMES = ('semantic_segmentation', 'depth')
CROP = (32, 32)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('mixed')
    make_scenes(root / 'scenes', {'train': 6, 'val': 2, 'test': 1}, size=40, workers=1, progress=False)
    write_nyuv2(root / 'nyu', 5, 2)
    return root


@pytest.fixture
def cfg(data, tmp_path):
    """The page's own lines, with tiny files, crops and layers, and two steps."""
    (text,) = re.findall(r'```python\n(# Depth from NYUv2.*?)```', PAGE.read_text(encoding='utf-8'), re.DOTALL)
    file = tmp_path / 'mixed.py'
    file.write_text(text.replace('data/nyu_depth_v2', str(data / 'nyu')).replace('data/scenes', str(data / 'scenes')))
    cfg = Config.fromfile(file, format_python_code=False)
    model = segmentor(*NAMES)
    for tasks in (model.task, model.decode_head.tasks):
        tasks.semantic_segmentation.num_classes = 11
    model.decode_head.heads.semantic_segmentation.num_classes = 11
    model.data_preprocessor = dict(type='DenseDataPreProcessor', size=CROP, test_cfg=dict(size_divisor=8))
    for dataset in cfg.train_dataloader.dataset.datasets:
        for step in dataset.pipeline:
            if 'crop_size' in step:
                step.crop_size = CROP
    cfg.merge_from_dict(
        dict(
            model=model,
            default_scope='mmseg',
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=4),
            val_cfg=dict(type='ValLoop'),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3)),
            default_hooks=dict(checkpoint=None),
        )
    )
    init_default_scope('mmseg')
    return cfg


def test_a_training_with_validation(cfg, tmp_path):
    report, parts = check_datasets(cfg, workers=1, progress=False)
    assert [part.name for part in parts] == ['train 1', 'train 2', 'val 1', 'val 2']
    assert not report.problems('error')
    assert 'depth' in dict(report.parts[1].known) and 'depth' not in dict(report.parts[0].known)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    kinds = [sample['data_samples'] for sample in (dataset[0], dataset[6])]
    assert [bool((sample.gt_sem_seg.data != 255).any()) for sample in kinds] == [True, False]
    assert [bool(sample.gt_depth_map.data.any()) for sample in kinds] == [False, True]
    train_plain(cfg, tmp_path / 'work')
    (log,) = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    (line,) = [line for line in log.read_text().splitlines() if 'mIoU' in line]
    scores = {name: float(value) for name, value in re.findall(r'"([\w/]+)": ([\d.]+)', line)}
    assert 0 <= scores['mIoU'] <= 100 and math.isfinite(scores['depth/rmse']) and scores['depth/rmse'] > 0


def test_a_label_that_lacks_teaches_nothing(cfg):
    """Images of one kind: the other task's loss is 0, and so are the gradients of its head."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    for indices, learns, not_so in (
        ((0, 1), 'semantic_segmentation', 'depth'),
        ((6, 7), 'depth', 'semantic_segmentation'),
    ):
        batch = [dataset[index] for index in indices]
        data = dict(inputs=[each['inputs'] for each in batch], data_samples=[each['data_samples'] for each in batch])
        data = model.data_preprocessor(data, training=True)
        model.zero_grad()
        losses = model.loss(data['inputs'], data['data_samples'])
        of = {
            name: sum(float(v) for key, v in losses.items() if f'.{name}.' in key and 'loss' in key) for name in NAMES
        }
        assert of[not_so] == 0 < of[learns]
        model.parse_losses(losses)[0].backward()
        gradients = {
            name: sum(
                float(p.grad.abs().sum()) for p in model.decode_head.heads[name].parameters() if p.grad is not None
            )
            for name, head in model.decode_head.heads.items()
        }
        assert gradients[not_so] == 0 < gradients[learns]


def test_sets_that_cannot_be_joined(cfg):
    cfg.train_dataloader.dataset.ignore_keys = ['palette']
    with pytest.raises(ValueError, match=r"found sets whose metainfo differs in classes.*Set ignore_keys=\['classes'"):
        check_data(cfg)


def test_the_set_with_the_classes_is_first(cfg):
    """The metric would count NYUv2's 27 kinds of rooms as classes."""
    cfg.val_dataloader.dataset.datasets = cfg.val_dataloader.dataset.datasets[::-1]
    with pytest.raises(
        ValueError, match=r'found 27 classes in the first of 2 sets, NYUv2DepthDataset; expected the 11'
    ):
        check_data(cfg)
