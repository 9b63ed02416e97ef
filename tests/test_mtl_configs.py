"""The configs of plain heads side by side: sizes without memory, what they share with InvPT's, a step of each."""

import pytest
import torch
from meta_models import on_meta
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from tiny_invpt import K, samples
from tiny_nyuv2 import ROOT, full_size

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.models.multitask.task_losses import TASK_WEIGHTS, task_loss
from mmdiff2in1.tasks import TaskSet, stacked_targets

MTL = ['baselines/mtl_nyud-mt', 'baselines/mtl_pascal-context']
HEAD = 9 * 1024 * 512 + 9 * 512 * 512 + 4 * 512
"""Two convolutions and their batch norms."""


def config(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{name}.py', format_python_code=False)


def test_every_config_is_one_of_these():
    found = {str(path.relative_to(ROOT / 'configs').with_suffix('')) for path in (ROOT / 'configs').glob('[bd]*/mtl*')}
    assert found == set(MTL)


@pytest.mark.parametrize(
    ('name', 'cells', 'outputs', 'parameters'),
    [(MTL[0], 28 * 36, [40, 1, 3], 325_395_500), (MTL[1], 32 * 32, [21, 7, 2, 3], 332_486_177)],
)
def test_full_size_on_the_meta_device(name, cells, outputs, parameters, tmp_path):
    """The backbone of InvPT, and for each task two convolutions and the last one; outputs of the size of the images."""
    cfg = full_size(name, tmp_path)
    model = on_meta(cfg).eval()
    backbone = 24 * (12 * 1024**2 + 13 * 1024) + 2 * 1024 + (3 * 16**2 + 1) * 1024 + (cells + 2) * 1024
    assert parameters == backbone + len(outputs) * HEAD + 513 * sum(outputs)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert sorted(task.channels for task in model.tasks.values()) == sorted(outputs)
    size = tuple(cfg.crop_size)
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size)
    output = model.encode_decode(torch.zeros(1, 3, *size, device='meta'), [meta])
    assert output.shape == (1, sum(outputs), *size)


@pytest.mark.parametrize('name', MTL)
def test_all_but_the_heads_is_that_of_invpt(name):
    cfg, invpt = config(name), config(name.replace('mtl', 'invpt'))
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'global_batch_size', 'sync_bn', 'val_evaluator'):
        assert cfg[key] == invpt[key], key
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert cfg[loader] == invpt[loader]
    for key in ('task', 'backbone', 'data_preprocessor', 'test_cfg', 'type'):
        assert cfg.model[key] == invpt.model[key], key
    assert list(cfg.model.task) == list(cfg.model.decode_head.tasks) == list(cfg.model.decode_head.heads)


@pytest.mark.parametrize('name', MTL)
def test_a_step_with_narrow_layers_has_the_losses_of_invpt(name):
    cfg = config(name)
    cfg.model.backbone.update(img_size=(64, 128), width=32, depth=4, heads=2)
    heads = cfg.model.decode_head.heads
    for head in heads.values():
        head.get('head', head).update(in_channels=32, channels=8)
    for tasks in (cfg.model.task, cfg.model.decode_head.tasks):
        tasks.semantic_segmentation.num_classes = K
    heads.semantic_segmentation.num_classes = K
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    images, batch = torch.randn(2, 3, 64, 128), samples(*cfg.model.task)
    losses = model.loss(images, batch)
    output = model.encode_decode(images, [dict(ori_shape=(64, 128), img_shape=(64, 128), pad_shape=(64, 128))] * 2)
    for task_name, part in TaskSet(cfg.model.task).split(output).items():
        task = model.tasks[task_name]
        expected = TASK_WEIGHTS[task_name] * task_loss(task, part, stacked_targets(task, batch))
        (found,) = [value for key, value in losses.items() if key.startswith(f'decode.{task_name}.loss')]
        torch.testing.assert_close(found, expected)
    model.train().parse_losses(model.loss(images, batch))[0].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
