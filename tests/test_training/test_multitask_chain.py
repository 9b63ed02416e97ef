"""The chain of the multi-task configs, narrow: θ_C labels all tasks of a created image, and all of them are scored."""

import json
import math
import shutil

import pytest
import torch
from mmengine.config import Config
from tiny_chain import ROOT, logged_losses
from tiny_multitask import SIZE, write_nyud, write_pascal

from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.chain import train

PADDED = (64, 128)
INVPT, TASKPROMPTER = 'invpt_pascal-context', 'taskprompter_nyud-mt'
PLAIN = f"""
_base_ = [{str(ROOT / 'configs/baselines/mtl_pascal-context.py')!r}]
from mmdiff2in1.training.recipes import make_self_improving

rule = dict(type='RulePerTask', rules=dict(saliency=None, semantic_segmentation=dict(type='TeacherLabel', soft=True)))
make_self_improving(
    _base_,
    preset='paper',
    warmup=True,
    mix=dict(added='equal'),
    label_rule=rule,
    synthetic_weight=dict(normal=0.5),
    diffusion='weights',
    captions='captions.jsonl',
    samples_per_update=4,
    samples_per_image=1,
    restore_size=True,
)
"""
"""Plain heads; saliency on real images alone, classes by their probabilities, normals of created images for half."""
TASKS = {
    INVPT: ('semantic_segmentation', 'human_parts', 'saliency', 'normal'),
    TASKPROMPTER: ('semantic_segmentation', 'depth', 'normal'),
}
FIGURES = {
    INVPT: ('mIoU', 'human_parts/mIoU', 'saliency/maxF', 'normal/mean'),
    TASKPROMPTER: ('mIoU', 'depth/rmse', 'normal/mean'),
}
STEPS = {INVPT: 44, TASKPROMPTER: 22}
"""One sample a step, any, as the config says; and one real and one created. The average is due after 40 samples."""
ALPHA = {INVPT: 0.999, TASKPROMPTER: 0.998}


def narrow(name, chain_folder) -> Config:
    """The config with a few channels, on rendered rooms."""
    cfg = Config.fromfile(ROOT / f'configs/diff2in1/{name}.py', format_python_code=False)
    cfg.merge_from_dict(on_rooms(cfg, chain_folder / name, STEPS[name]))
    if name == INVPT:
        cfg.model.segmentor.decode_head.update(in_channels=[32] * 3, channels=8, widths=[12, 8, 4])
    else:
        cfg.model.segmentor.backbone.update(taps=(2, 4), embed_channels=6, channels=8, channel_windows=2)
        cfg.model.segmentor.decode_head.channels = 8
        cfg.stages.synthesis.num_samples = 4
        cfg.stages.warmup.global_batch_size = 2
        cfg.train_dataloader.batch_sampler = dict(type='MixedBatchSampler')
        cfg.train_dataloader.dataset.mix = dict(added='equal')
    return cfg


def on_rooms(cfg, data, steps) -> dict:
    """Options: rendered rooms in the folder `data`, a narrow ViT, so many steps."""
    images = [*data.glob('JPEGImages/*'), *data.glob('images/*')]
    lines = [json.dumps(dict(image=f'{each.parent.name}/{each.name}', caption='a red ball')) for each in images]
    (data / 'captions.jsonl').write_text('\n'.join(lines) + '\n')
    options = {
        'global_batch_size': 1,
        'train_dataloader.dataset.dataset.data_root': str(data),
        'stages.warmup.train_cfg': dict(max_iters=3, val_interval=3),
        'stages.synthesis.diffusion': str(data.parent / 'weights'),
        'stages.synthesis.captions': str(data / 'captions.jsonl'),
        'stages.synthesis.size': SIZE,
        'stages.synthesis.num_calls': 2,
        'train_cfg': dict(max_iters=steps, val_interval=steps),
        'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint': dict(interval=10, max_keep_ckpts=5),
        'model.segmentor.backbone': dict(img_size=PADDED, width=32, depth=4, heads=2),
    }
    for loader in ('train', 'val', 'test'):
        options[f'{loader}_dataloader.num_workers'] = 0
        options[f'{loader}_dataloader.persistent_workers'] = False
        if loader != 'train':
            options[f'{loader}_dataloader.dataset.data_root'] = str(data)
    pipeline = [each['type'] for each in cfg.train_dataloader.dataset.dataset.pipeline]
    crop = pipeline.index('DenseRandomCrop')
    options[f'train_dataloader.dataset.dataset.pipeline.{crop}.crop_size'] = PADDED
    for preprocessor in ('data_preprocessor', 'model.segmentor.data_preprocessor'):
        options[preprocessor] = dict(size=PADDED, test_cfg=dict(size=PADDED))
    return options


@pytest.fixture(scope='module')
def runs(chain_folder):
    """Config name → work dir and results of its straight chain."""
    write_pascal(chain_folder / INVPT)
    write_nyud(chain_folder / TASKPROMPTER)
    found = {}
    for name in TASKS:
        work_dir = chain_folder / f'{name}-run'
        found[name] = work_dir, train(narrow(name, chain_folder), work_dir)
    return found


def checkpoint(work_dir, stage, iteration):
    return torch.load(work_dir / stage / f'iter_{iteration}.pth', map_location='cpu', weights_only=False)


@pytest.mark.parametrize('name', TASKS)
def test_every_task_of_a_created_image_is_labelled_and_every_task_is_scored(runs, name):
    work_dir, results = runs[name]
    assert len(SampleStore(work_dir / 'synthetic').records()) == (3 if name == INVPT else 4)
    assert not (work_dir / 'synthetic/labels').exists()
    logged = logged_losses(work_dir / 'self_improving')
    assert len(logged) == STEPS[name]
    created = [entry for entry in logged if any(key.startswith('kept_share') for key in entry)]
    assert len(created) == STEPS[name] if name == TASKPROMPTER else 0 < len(created) < STEPS[name]
    ends = ('loss', 'loss_preliminary') if name == INVPT else ('loss',)
    for entry in logged:
        parts = [entry[f'decode.{task}.{end}'] for task in TASKS[name] for end in ends]
        assert entry['loss'] == pytest.approx(sum(parts), rel=1e-4) and math.isfinite(entry['loss'])
    for entry in created:
        assert {key for key in entry if key.startswith('kept_share')} == {f'kept_share/{task}' for task in TASKS[name]}
        # No confidence is asked for, so every class and every direction teaches, and of metres those above 0.
        assert all(entry[f'kept_share/{task}'] == 1 for task in TASKS[name] if task != 'depth')
        assert 0 <= entry.get('kept_share/depth', 0) <= 1
    wanted = {f'{model}{figure}' for model in ('', 'exploiter/') for figure in FIGURES[name]}
    assert wanted <= set(results['test']) and set(FIGURES[name]) <= set(results['self_improving']['metrics'])
    assert all(math.isfinite(results['test'][figure]) for figure in wanted)


@pytest.mark.parametrize('name', TASKS)
def test_the_average_moves_once_per_40_samples(runs, name):
    """After 40 samples θ_C = α θ_C + (1 - α) θ_E, from the warm-up's weights, and not again before the next 40."""
    work_dir, _ = runs[name]
    updates = {entry['iter']: entry['ema_updates'] for entry in logged_losses(work_dir / 'self_improving')}
    due = 40 if name == INVPT else 20
    assert updates == {step: int(step >= due) for step in range(1, STEPS[name] + 1)}
    before = checkpoint(work_dir, 'warmup', 3)['state_dict']
    after = checkpoint(work_dir, 'self_improving', due)['state_dict']
    end = checkpoint(work_dir, 'self_improving', STEPS[name])['state_dict']
    moved = 0
    for key, old in before.items():
        if key.endswith('num_batches_tracked') or key.startswith('data_preprocessor'):
            continue
        expected = ALPHA[name] * old + (1 - ALPHA[name]) * after[f'exploiter.{key}']
        torch.testing.assert_close(after[f'creator.{key}'], expected)
        assert torch.equal(end[f'creator.{key}'], after[f'creator.{key}'])
        moved += not torch.equal(old, after[f'creator.{key}'])
    assert moved > 20


def test_killed_and_resumed_is_the_straight_run(runs, chain_folder):
    """The files that a kill after step 30 leaves behind, ten samples before the average is due."""
    straight, results = runs[INVPT]
    killed = chain_folder / 'killed'
    shutil.copytree(straight, killed)
    stage = killed / 'self_improving'
    shutil.rmtree(killed / 'test')
    for file in [stage / 'finished.json', stage / 'iter_40.pth', stage / 'iter_44.pth', killed / 'results.json']:
        file.unlink()
    (stage / 'last_checkpoint').write_text(str(stage / 'iter_30.pth'))
    again = train(narrow(INVPT, chain_folder), killed, resume=True)
    assert again['test'] == results['test']
    assert again['self_improving']['metrics'] == results['self_improving']['metrics']
    expected, found = (checkpoint(run, 'self_improving', 44) for run in (straight, killed))
    assert set(expected['state_dict']) == set(found['state_dict'])
    assert all(torch.equal(tensor, found['state_dict'][key]) for key, tensor in expected['state_dict'].items())
    for index, moments in expected['optimizer']['state'].items():
        for key, value in moments.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(found['optimizer']['state'][index][key]))
    tail = [entry for entry in logged_losses(straight / 'self_improving') if entry['iter'] > 30]
    assert logged_losses(stage)[-14:] == tail


def test_plain_heads_with_a_rule_for_each_task(runs, chain_folder):
    """Real images teach all tasks, created ones all but saliency."""
    file = chain_folder / 'plain.py'
    file.write_text(PLAIN)
    cfg = Config.fromfile(file, format_python_code=False)
    cfg.merge_from_dict(on_rooms(cfg, chain_folder / INVPT, steps=4))
    for head in cfg.model.segmentor.decode_head.heads.values():
        head.get('head', head).update(in_channels=32, channels=8)
    results = train(cfg, chain_folder / 'plain')
    logged = logged_losses(chain_folder / 'plain/self_improving')
    assert len(logged) == 4
    taught = {f'kept_share/{task}' for task in TASKS[INVPT] if task != 'saliency'}
    for entry in logged:
        assert {key for key in entry if key.startswith('kept_share')} == taught
        assert math.isfinite(entry['loss']) and entry['decode.saliency.loss_balanced_ce'] > 0
    assert all(math.isfinite(results['test'][figure]) for figure in FIGURES[INVPT])
