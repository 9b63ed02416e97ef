"""docs/add_to_your_config.md: every command of it, in its order and its words, on a tiny SegFormer."""

import contextlib
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny_chain import SIZE, prepare

from mmdiff2in1.training.chain import train_plain

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'add_to_your_config.md').read_text()
COMMANDS = [line for block in re.findall(r'```sh\n(.*?)```', PAGE, re.S) for line in block.strip().splitlines()]
IN_A_CONFIG = re.search(r'```python\n(.*?)```', PAGE, re.S).group(1)
MINE = """
custom_imports = dict(imports=['mmdiff2in1.components'])
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', size=({size}, {size}), bgr_to_rgb=True, mean=[127.5] * 3, std=[127.5] * 3,
        pad_val=0, seg_pad_val=255,
    ),
    backbone=dict(
        type='MixVisionTransformer', embed_dims=8, num_stages=4, num_layers=[1] * 4, num_heads=[1] * 4,
        patch_sizes=[7, 3, 3, 3], sr_ratios=[8, 4, 2, 1], out_indices=(0, 1, 2, 3), drop_path_rate=0.0,
    ),
    decode_head=dict(
        type='SegformerHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3], channels=8, num_classes=11,
        norm_cfg=dict(type='BN'), loss_decode=dict(type='CrossEntropyLoss'),
    ),
    test_cfg=dict(mode='whole'),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]


def folders(part):
    return dict(img_path=part + '/images', seg_map_path=part + '/semantic')


def loader(part, batch_size, sampler):
    return dict(
        batch_size=batch_size, num_workers=0, sampler=sampler,
        dataset=dict(type='ScenesDataset', data_root='scenes', data_prefix=folders(part), pipeline=pipeline),
    )


train_dataloader = loader('train', 4, dict(type='InfiniteSampler', shuffle=True))
val_dataloader = loader('val', 1, dict(type='DefaultSampler', shuffle=False))
test_dataloader = loader('test', 1, dict(type='DefaultSampler', shuffle=False))
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
train_cfg = dict(type='IterBasedTrainLoop', max_iters=20, val_interval=20)
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=20, by_epoch=False)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=20))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='mine')
randomness = dict(seed=0)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory, tiny_diffusion_config):
    """What the page begins with: a config, its checkpoint, weights."""
    folder = prepare(tmp_path_factory.mktemp('mine'), tiny_diffusion_config)
    (folder / 'weights').rename(folder / 'WEIGHTS')
    (folder / 'my_segformer.py').write_text(MINE.format(size=SIZE))
    return folder


@pytest.fixture(scope='module')
def ran(folder):
    """Command → what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train_plain(Config.fromfile('my_segformer.py'), 'work_dirs/my_segformer')
        Path('work_dirs/my_segformer/iter_20.pth').rename('my_segformer.pth')
        return {command: run(command, patch) for command in COMMANDS}


@contextlib.contextmanager
def well_ended():
    try:
        yield
    except SystemExit as end:
        assert end.code in (0, None), end.code


def run(command: str, patch: pytest.MonkeyPatch) -> str:
    words = shlex.split(command)
    assert words[0] == 'mmdiff2in1'
    out = Path('printed')
    with out.open('w') as stream, patch.context() as inner, well_ended():
        inner.setattr(sys, 'stdout', stream)
        inner.setattr(sys, 'argv', words)
        runpy.run_module('mmdiff2in1', run_name='__main__')
    return out.read_text()


def metrics(work_dir: Path) -> dict:
    return json.loads((work_dir / 'test' / 'metrics.json').read_text())


def test_the_page_is_as_long_as_it_says():
    numbered = re.findall(r'^\*\*\d\. ', PAGE, re.M)
    assert len(numbered) == 8 and len(COMMANDS) == 11
    assert len([line for line in IN_A_CONFIG.splitlines() if line]) == 4


def test_every_command_runs_and_home_is_as_good(ran, folder):
    wrapped = next(text for command, text in ran.items() if ' wrap ' in command)
    assert 'written: my_diff2in1.py' in wrapped and 'from: load_from=my_segformer.pth' in wrapped
    assert (folder / 'work_dirs' / 'my_diff2in1' / 'preview.png').is_file()
    created = (folder / 'work_dirs' / 'my_diff2in1' / 'synthetic' / 'manifest.jsonl').read_text().splitlines()
    assert len(created) == 8
    assert not (folder / 'work_dirs' / 'control' / 'synthetic').exists()
    both, home = (metrics(folder / 'work_dirs' / name) for name in ('my_diff2in1', 'my_segformer'))
    assert home == {name: value for name, value in both.items() if not name.startswith('exploiter/')}
    assert {f'exploiter/{name}' for name in home} < set(both)


def test_one_command_is_the_eight(ran, folder):
    """The same config as the wrapped one, and the same end to the bit."""
    whole = folder / 'work_dirs' / 'my_segformer-self-improving' / 'my_segformer-self-improving.py'
    assert Config.fromfile(whole).to_dict() == Config.fromfile(folder / 'my_diff2in1.py').to_dict()
    states = [
        torch.load(folder / 'work_dirs' / name / 'self_improving' / 'iter_20.pth', weights_only=False)['state_dict']
        for name in ('my_diff2in1', 'my_segformer-self-improving')
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_whole_config_resumes_what_the_one_command_began(ran, folder, monkeypatch):
    """Nothing is trained again: the finished stages are those of the same config."""
    monkeypatch.chdir(folder)
    work_dir = Path('work_dirs/my_segformer-self-improving')
    before = (work_dir / 'self_improving' / 'iter_20.pth').stat().st_mtime_ns
    run(f'mmdiff2in1 train {work_dir / work_dir.name}.py --work-dir {work_dir} --resume', monkeypatch)
    assert (work_dir / 'self_improving' / 'iter_20.pth').stat().st_mtime_ns == before


def test_the_four_lines_are_what_is_written(ran, folder):
    (folder / 'four.py').write_text(IN_A_CONFIG)
    four, wrapped = (Config.fromfile(folder / name).to_dict() for name in ('four.py', 'my_diff2in1.py'))
    assert four == wrapped
