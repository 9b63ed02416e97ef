"""The chain: what it leaves behind, what it skips, and that a killed run goes on as if nothing had happened."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image
from tiny_chain import (
    chain_config,
    creation_trace,
    final_state,
    finish,
    logged_losses,
    start,
)

from mmdiff2in1.training.chain import train
from mmdiff2in1.training.stages import self_improving_config

GOLDEN = Path(__file__).resolve().parents[1] / 'assets' / 'losses'


def test_every_stage_leaves_its_results(straight):
    work_dir, results = straight
    assert results['warmup']['iters'] == results['self_improving']['iters'] == 20
    records = [json.loads(line) for line in (work_dir / 'synthetic' / 'manifest.jsonl').read_text().splitlines()]
    assert len(records) == 2 * 6 and all(record['num_calls'] == len(record['timesteps']) == 3 for record in records)
    assert json.loads((work_dir / 'results.json').read_text()) == results
    assert {'mIoU', 'exploiter/mIoU'} <= set(results['test'])
    assert Image.open(work_dir / 'curves.png').width > 400


def test_logs_tell_real_from_synthetic(straight):
    work_dir, _ = straight
    logged = logged_losses(work_dir / 'self_improving')
    assert [entry['iter'] for entry in logged] == list(range(1, 21))
    for entry in logged:
        parts = entry['real/decode.loss_ce'] + entry['synthetic/decode.loss_ce']
        assert entry['loss'] == pytest.approx(parts, rel=1e-4)
        assert 0 <= entry['kept_share/semantic_segmentation'] <= 1
    # 4 real + 2 synthetic samples a step, an update per 40 samples: 20 · 6 // 40 updates.
    assert logged[-1]['ema_updates'] == 3


def test_a_finished_chain_is_skipped(straight, chain_folder):
    work_dir, results = straight
    before = {p: p.stat().st_mtime_ns for p in work_dir.glob('*/iter_*.pth')}
    again = train(chain_config(chain_folder), work_dir)
    assert {p: p.stat().st_mtime_ns for p in work_dir.glob('*/iter_*.pth')} == before
    assert again['self_improving'] == results['self_improving'] and again['test'] == results['test']


def test_a_moved_run_goes_on_and_makes_up_the_validation_that_a_kill_took(straight, chain_folder):
    """The last checkpoint precedes the last validation; after a kill in between, the metrics were of iteration 10."""
    work_dir, results = straight
    moved = chain_folder / 'moved'
    shutil.copytree(work_dir, moved)
    (moved / 'self_improving' / 'finished.json').unlink()
    again = train(chain_config(chain_folder), moved, resume=True)
    assert again['self_improving']['metrics'] == results['self_improving']['metrics']
    assert again['warmup']['checkpoint'] == str(moved / 'warmup' / 'iter_20.pth')
    assert again['test'] == results['test']


def test_a_finished_test_is_skipped_until_what_decides_it_changes(straight, chain_folder, monkeypatch):
    work_dir, tested = chain_folder / 'tested', []
    shutil.copytree(straight[0], work_dir)
    real = Runner.test
    monkeypatch.setattr(Runner, 'test', lambda runner: tested.append(1) or real(runner))
    cfg = chain_config(chain_folder)
    assert train(cfg, work_dir)['test'] == straight[1]['test'] and not tested
    cfg.test_dataloader.num_workers = 1
    cfg.test_dataloader.batch_size = 3
    assert train(cfg, work_dir)['test'] == straight[1]['test'] and not tested

    cfg.test_dataloader.dataset.indices = 2
    fewer = train(cfg, work_dir)
    assert len(tested) == 1 and fewer['self_improving'] == straight[1]['self_improving'] | {
        'checkpoint': str(work_dir / 'self_improving' / 'iter_20.pth')
    }
    assert train(cfg, work_dir)['test'] == fewer['test'] and len(tested) == 1
    cfg.test_cfg.exploiter = False
    assert 'exploiter/mIoU' not in train(cfg, work_dir)['test'] and len(tested) == 2
    cfg.test_evaluator.iou_metrics = ['mDice']
    assert 'mDice' in train(cfg, work_dir)['test'] and len(tested) == 3


def test_data_that_moved_resume_to_the_same_numbers(straight, chain_folder):
    """A stage that was killed after the data had been copied elsewhere; labels that change are another training."""
    data, work_dir = chain_folder / 'scenes-elsewhere', chain_folder / 'moved-data'
    shutil.copytree(chain_folder / 'scenes', data)
    shutil.copytree(straight[0], work_dir)
    (work_dir / 'self_improving' / 'finished.json').unlink()
    for file in work_dir.glob('self_improving/iter_20.pth'):
        file.unlink()
    (work_dir / 'self_improving' / 'last_checkpoint').write_text(str(work_dir / 'self_improving' / 'iter_15.pth'))
    cfg = chain_config(chain_folder)
    for loader in ('train', 'val', 'test'):
        dataset = cfg[f'{loader}_dataloader'].dataset
        dataset.get('dataset', dataset).data_root = str(data)
    cfg.stages.synthesis.captions = f'{data}/train/captions.jsonl'
    again = train(cfg, work_dir, resume=True)
    assert again['self_improving']['metrics'] == straight[1]['self_improving']['metrics']
    assert again['test'] == straight[1]['test']
    expected, found = (final_state(run, 'self_improving') for run in (straight[0], work_dir))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())

    label = sorted((data / 'val' / 'semantic').glob('*.png'))[0]
    Image.fromarray(np.zeros_like(np.asarray(Image.open(label)))).save(label)
    with pytest.raises(ValueError, match='seg_map_path.content: another content'):
        train(cfg, work_dir, resume=True)


def test_a_chain_whose_scalars_go_elsewhere_ends_well(straight, chain_folder, monkeypatch):
    """TensorBoard alone, for instance: nothing to draw the curves from, and one line that says so."""
    work_dir = chain_folder / 'no-scalars'
    shutil.copytree(straight[0], work_dir)
    for scalars in work_dir.glob('self_improving/*/vis_data/scalars.json'):
        scalars.unlink()
    (work_dir / 'curves.png').unlink()
    (work_dir / 'results.json').unlink()
    said = []
    monkeypatch.setattr('mmdiff2in1.training.chain.print_log', lambda text, *_: said.append(text))
    assert train(chain_config(chain_folder), work_dir)['test'] == straight[1]['test']
    assert json.loads((work_dir / 'results.json').read_text())['test'] == straight[1]['test']
    assert not (work_dir / 'curves.png').exists()
    (line,) = [text for text in said if 'curves.png' in text]
    assert line.startswith('no curves.png: ') and 'LocalVisBackend' in line and '\n' not in line


def test_a_stage_of_another_config_is_refused(straight, chain_folder):
    cfg = chain_config(chain_folder)
    cfg.optim_wrapper.optimizer.lr = 1e-5
    with pytest.raises(ValueError, match='another config'):
        train(cfg, straight[0])


def test_baseline_shares_the_warm_up_and_sees_no_synthetic_sample(straight, chain_folder):
    work_dir, results = straight
    cfg = chain_config(chain_folder, 'baselines')
    cfg.stages.warmup.work_dir = str(work_dir / 'warmup')
    baseline = train(cfg, chain_folder / 'baseline')
    assert baseline['warmup'] == results['warmup']
    logged = logged_losses(chain_folder / 'baseline' / 'self_improving')
    assert len(logged) == 20 and not any('synthetic' in key for entry in logged for key in entry)


def test_added_samples_leave_the_real_ones_as_they_are(straight, chain_folder):
    """The comparison is fair: the baseline sees the same real images, augmented alike, in the same order."""
    store = straight[0] / 'synthetic'
    with_samples = self_improving_config(chain_config(chain_folder), chain_folder, None, store)
    without = self_improving_config(chain_config(chain_folder, 'baselines'), chain_folder, None, None)
    loaders = [iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)) for cfg in (with_samples, without)]
    for _ in range(5):
        mixed, real = (next(loader) for loader in loaders)
        assert [s.metainfo['synthetic'] for s in mixed['data_samples']] == [False] * 4 + [True] * 2
        assert len(real['inputs']) == 4
        for one, other in zip(mixed['inputs'], real['inputs'], strict=False):
            assert torch.equal(one, other)


def _golden(stage: str) -> list[dict]:
    return [json.loads(line) for line in (GOLDEN / f'{stage}.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('stage', ['warmup', 'self_improving'])
def test_golden_losses(straight, stage):
    """Losses of 20 steps, kept as text; a change that should not alter results must leave them alone.

    Written by ``python tests/write_golden_losses.py``.
    """
    logged, golden = logged_losses(straight[0] / stage), _golden(stage)
    assert len(golden) == len(logged) == 20
    for found, expected in zip(logged, golden, strict=True):
        assert found == pytest.approx(expected, rel=2e-3, abs=2e-4)


def test_golden_creation(chain_folder):
    """20 denoising calls from T = 600: the U-Net's output at each of them."""
    found, golden = creation_trace(chain_folder), _golden('creation')
    assert len(golden) == 20
    for one, expected in zip(found, golden, strict=True):
        assert one == pytest.approx(expected, rel=2e-3, abs=2e-4)


def test_frozen_parts_are_held_once(straight):
    state = torch.load(straight[0] / 'self_improving' / 'iter_20.pth', map_location='cpu', weights_only=False)[
        'state_dict'
    ]
    assert any(key.startswith('exploiter.backbone.diffusion.unet') for key in state)
    assert not any(key.startswith('creator.backbone.diffusion') for key in state)
    assert any(key.startswith('creator.decode_head') for key in state)


def _killed_and_resumed(chain_folder, stage: str, finished: Sequence[Path] = ()):
    """A run that is killed in the middle of ``stage`` and resumed; the folders of ``finished`` stages are copied."""
    work_dir = chain_folder / f'killed-{stage}'
    for each in finished:
        shutil.copytree(each, work_dir / each.name)
    config = chain_folder / 'chain.py'
    chain_config(chain_folder).dump(config)
    reached = {
        'warmup': lambda: (work_dir / 'warmup' / 'iter_5.pth').exists(),
        'synthetic': lambda: len(list((work_dir / 'synthetic' / 'images').glob('*.png'))) >= 5,
        'self_improving': lambda: (work_dir / 'self_improving' / 'iter_5.pth').exists(),
    }[stage]
    start(config, work_dir).until(reached).kill()
    assert not (work_dir / 'self_improving' / 'finished.json').exists()
    finish(start(config, work_dir, '--resume'))
    return work_dir


def _assert_equal_runs(one: Path, other: Path) -> None:
    for stage in ('warmup', 'self_improving'):
        expected, found = final_state(one, stage), final_state(other, stage)
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            assert torch.equal(tensor, found[name]), f'{stage}: {name}'
    images = [{p.name: p.read_bytes() for p in (run / 'synthetic' / 'images').glob('*.png')} for run in (one, other)]
    assert images[0] == images[1]
    metrics = [json.loads((run / 'results.json').read_text())['test'] for run in (one, other)]
    assert metrics[0] == metrics[1]


def test_killed_while_self_improving_and_resumed_equals_straight(straight, chain_folder):
    finished = [straight[0] / 'warmup', straight[0] / 'synthetic']
    _assert_equal_runs(straight[0], _killed_and_resumed(chain_folder, 'self_improving', finished))


def test_interrupted_and_resumed_equals_straight(straight, chain_folder):
    """The whole chain; Ctrl-C between two checkpoints: the step in hand is saved."""
    work_dir, config = chain_folder / 'interrupted', chain_folder / 'chain.py'
    chain_config(chain_folder).dump(config)
    run = start(config, work_dir, '--cfg-options', 'default_hooks.checkpoint.interval=1000')
    log = work_dir / 'self_improving'
    run.until(lambda: any('Iter(train) [ 3/20]' in file.read_text() for file in log.glob('*/*.log'))).interrupt()
    output = run.wait(200)
    assert run.returncode == 130 and 'interrupted; to go on: tools/train.py' in output and '--resume' in output
    (saved,) = log.glob('iter_*.pth')
    assert 3 <= int(saved.stem.removeprefix('iter_')) < 20
    finish(start(config, work_dir, '--resume', '--cfg-options', 'default_hooks.checkpoint.interval=1000'))
    _assert_equal_runs(straight[0], work_dir)


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['warmup', 'synthetic'])
def test_killed_and_resumed_equals_straight(straight, chain_folder, stage):
    _assert_equal_runs(straight[0], _killed_and_resumed(chain_folder, stage))
