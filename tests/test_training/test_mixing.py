"""The README's promise to mmseg users: an existing config, wrapped, trains in a plain mmengine runner; and recipes."""

import copy
import re
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS

from mmdiff2in1.synthesis import synthesize_from_config
from mmdiff2in1.training.runs import build_runner

BASE = """
default_scope = 'mmseg'
randomness = dict(seed=0)
classes = 11
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True, size=(32, 32)),
    backbone=dict(
        type='MixVisionTransformer', embed_dims=8, num_stages=4, num_layers=[1] * 4, num_heads=[1, 1, 2, 2],
        patch_sizes=[7, 3, 3, 3], sr_ratios=[8, 4, 2, 1], mlp_ratio=2, drop_path_rate=0.0),
    decode_head=dict(
        type='SegformerHead', in_channels=[8, 8, 16, 16], in_index=[0, 1, 2, 3], channels=8, num_classes=classes,
        norm_cfg=dict(type='BN'), align_corners=False),
    test_cfg=dict(mode='whole'))
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')]
dataset = dict(
    type='ScenesDataset', data_root='{data}', data_prefix=dict(img_path='train/images', seg_map_path='train/semantic'),
    pipeline=pipeline)
train_dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type='InfiniteSampler'), dataset=dataset)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=12)
val_dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
val_cfg, val_evaluator = dict(type='ValLoop'), dict(type='IoUMetric')
test_dataloader, test_cfg, test_evaluator = val_dataloader, dict(type='TestLoop'), val_evaluator
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=12))
custom_imports = dict(imports=['mmdiff2in1.components'], allow_failed_imports=False)
"""
ROOT = Path(__file__).parents[2]
SHORT, LONG = 'README.md', 'docs/recipes.md'
# What they show, with the places and numbers of a tiny training put in.
CHANGES = {
    "'my_config.py'": "'base.py'",
    'data/my_synthetic': '{store}',
    '/path/to/a/diffusers/folder': '{weights}',
    "'captions.jsonl'": "'{data}/train/captions.jsonl'",
    'size=512': 'size=32',
    "load_from = 'work_dirs/my_config/iter_20000.pth'": 'load_from = None',
}


def shown(page: str) -> str:
    """The last config that a page shows, an extension of my_config.py."""
    text = re.findall(r"```python\n(_base_ = \['my_config.*?)```", (ROOT / page).read_text(), re.DOTALL)[-1]
    calls = {'num_calls=20': 'num_calls=2'} if page == LONG else {'size=32': 'size=32, num_calls=2'}
    for old, new in (CHANGES | calls).items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def configs(chain_folder, tmp_path) -> Path:
    """``base.py`` as a user has it, and on top ``mixed.py``, and the same said at length, ``long.py``."""
    places = {'data': chain_folder / 'scenes', 'weights': chain_folder / 'weights', 'store': tmp_path / 'store'}
    for name, text in (('base', BASE), ('mixed', shown(SHORT)), ('long', shown(LONG))):
        for place, path in places.items():
            text = text.replace('{' + place + '}', str(path))
        (tmp_path / f'{name}.py').write_text(text)
    return tmp_path


def _run(cfg: Config, work_dir: Path) -> Runner:
    cfg.work_dir = str(work_dir)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_the_recipe_is_the_long_form(configs):
    short, long = (Config.fromfile(configs / f'{name}.py') for name in ('mixed', 'long'))
    assert short.to_dict() == long.to_dict()


def test_a_wrapped_config_trains_in_a_plain_runner(configs, monkeypatch):
    """From the file as mmseg's tools read it, and from the copy that mmengine leaves, which needs no recipe."""
    expanded = Config.fromfile(configs / 'mixed.py')
    expanded.dump(configs / 'elsewhere.py')
    monkeypatch.setitem(sys.modules, 'mmdiff2in1.training.recipes', None)  # whoever imports it now, fails
    with pytest.raises(ImportError):
        Config.fromfile(configs / 'mixed.py')
    cfg = Config.fromfile(configs / 'elsewhere.py')
    assert cfg.to_dict() == expanded.to_dict()
    synthesize_from_config(cfg, configs / 'store', progress=False)
    runner = _run(cfg, configs / 'run')
    # 12 steps of 4 + 4 samples: two updates, and 16 samples that wait for the next.
    assert runner.message_hub.get_info('self_improving_updates') == 2
    left = next((configs / 'run').glob('*/vis_data/config.py'))  # by mmengine
    assert Config.fromfile(left).model == expanded.model and 'recipes' not in left.read_text()
    creator, exploiter = runner.model.creator.state_dict(), runner.model.exploiter.state_dict()
    assert any(not torch.equal(creator[name], exploiter[name]) for name in creator)


def test_without_samples_the_wrapper_changes_nothing(configs):
    """Twelve optimizer steps, wrapped and not: the same weights, bit for bit."""
    plain = _run(Config.fromfile(configs / 'base.py'), configs / 'plain').model.state_dict()
    cfg = Config.fromfile(configs / 'mixed.py')
    cfg.train_dataloader.dataset.store = None
    wrapped = _run(cfg, configs / 'wrapped').model.exploiter.state_dict()
    assert plain.keys() == wrapped.keys()
    for name, tensor in plain.items():
        assert torch.equal(tensor, wrapped[name]), name


@pytest.fixture
def of_seven_classes(configs) -> Path:
    """A checkpoint of the base config, but for another set: its last layer has 7 outputs where ours has 11."""
    cfg = Config.fromfile(configs / 'base.py')
    init_default_scope('mmseg')
    cfg.model.decode_head.num_classes = 7
    torch.manual_seed(3)
    torch.save(dict(meta={}, state_dict=MODELS.build(cfg.model).state_dict()), configs / 'seven.pth')
    return configs / 'seven.pth'


@pytest.mark.parametrize('name', ['mixed', 'base'])
def test_a_checkpoint_of_another_class_count_is_refused_unless_named(configs, of_seven_classes, name):
    """`mixed` in a plain mmengine runner, as mmseg's tools/train.py has it; `base` by our door, which guards it."""
    cfg = Config.fromfile(configs / f'{name}.py')
    if name == 'mixed':
        cfg.train_dataloader.dataset.store = None
        cfg.custom_hooks[0].samples_per_update = 4
        build = Runner.from_cfg
    else:
        build = build_runner
    cfg.load_from, cfg.work_dir, cfg.train_cfg.max_iters = str(of_seven_classes), str(configs / 'run'), 3
    with pytest.raises(RuntimeError, match=r'(?s)decode_head.conv_seg.weight: .*\[7, 8, 1, 1\].*load_from_may_differ'):
        build(copy.deepcopy(cfg)).train()
    cfg.load_from_may_differ, cfg.optim_wrapper.optimizer.lr = ['decode_head.conv_seg'], 0.0
    cfg.optim_wrapper.optimizer.weight_decay = 0.0
    runner = build(copy.deepcopy(cfg))
    runner.train()
    stored = torch.load(of_seven_classes)['state_dict']
    name = 'backbone.layers.0.0.projection.weight'
    for model in [runner.model.exploiter, runner.model.creator] if hasattr(runner.model, 'creator') else [runner.model]:
        assert torch.equal(model.state_dict()[name], stored[name])
        assert model.decode_head.conv_seg.weight.shape[0] == 11
    # Going on from its own checkpoint needs no permission.
    cfg.load_from, cfg.load_from_may_differ, cfg.resume, cfg.train_cfg.max_iters = None, None, True, 5
    resumed = build(copy.deepcopy(cfg))
    resumed.train()
    assert resumed.iter == 5
    found = resumed.model.state_dict()
    for key, tensor in runner.model.state_dict().items():
        if 'conv_seg' in key:
            assert torch.equal(found[key], tensor), key


def test_forgetting_delete_says_what_to_do(configs):
    text = (configs / 'long.py').read_text().replace('model = dict(\n    _delete_=True,', 'model = dict(')
    (configs / 'forgotten.py').write_text(text)
    cfg = Config.fromfile(configs / 'forgotten.py')
    with pytest.raises(TypeError, match='_delete_=True'):
        MODELS.build(cfg.model)
