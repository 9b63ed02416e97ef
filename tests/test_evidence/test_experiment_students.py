"""projects/evidence/students.py: what each arm trains on, and the table of finished runs."""

import argparse
import json

import numpy as np
import pytest
import students as tool
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image
from tiny_camvid import write_camvid

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.synthesis import SynthesisSettings


@pytest.fixture(scope='module')
def args(tmp_path_factory):
    init_default_scope('mmseg')
    root = tmp_path_factory.mktemp('students')
    make_scenes(root / 'scenes', {'train': 5, 'val': 2, 'test': 2}, size=64, workers=1, progress=False)
    given = ['--data-root', str(root / 'scenes'), '--work-dir', str(root / 'runs'), '--denoiser', str(root / 'd.pth')]
    return tool.parse_args(given)


def test_every_arm_sees_as_many_images_a_step_and_forgets_its_random_weights(args):
    for arm in tool.ARMS:
        cfg = tool.config_of(arm, 2, 7, args)
        loader = cfg.train_dataloader
        further = loader.batch_size if cfg.stages.synthesis else 0
        assert loader.batch_size + further == (8 if arm == 'real + EMA' else 16), arm
        assert {each.type: each for each in cfg.custom_hooks}['SelfImprovingHook'].remaining == 0.001, arm
        assert loader.dataset.dataset.num_labelled == 2 and loader.dataset.seed == cfg.randomness.seed == 7
        settings = SynthesisSettings.from_cfg(cfg) if cfg.stages.synthesis else SynthesisSettings()
        assert (settings.condition is not None) == arm.startswith(('labels, created', 'pasted, created')), arm
        steps = [step['type'] for step in loader.dataset.dataset.pipeline]
        assert cfg.get('load_from') == (str(args.denoiser) if 'denoising first' in arm else None), arm
        assert ('StrongColour' in steps) == ('strong colours' in arm) and steps[-1] == 'PackSegInputs', arm


def test_more_steps(args):
    cfg = tool.config_of('pasted', 2, 0, argparse.Namespace(**vars(args) | dict(iters=6000)))
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval, cfg.param_scheduler[1].end) == (6000, 6000, 6000)
    assert tool.last_checkpoint(cfg) == 'self_improving/iter_6000.pth'


def test_pasted_images_are_shared_and_other_images_are_those_without_a_label(args):
    stores = [
        tool.config_of(arm, 2, 0, args).train_dataloader.dataset.store
        for arm in ('pasted', 'pasted, strong colours', 'pasted, denoising first')
    ]
    assert len(set(stores)) == 1
    cfg = tool.config_of('teacher, unlabelled', 2, 0, args)
    files = {path.name for path in (args.work_dir / 'unlabelled' / '2-seed0').iterdir()}
    assert cfg.stages.synthesis.unlabelled.endswith('unlabelled/2-seed0') and len(files) == 3
    labelled = DATASETS.build(cfg.train_dataloader.dataset.dataset)
    assert not files & {labelled.get_data_info(i)['img_path'].split('/')[-1] for i in range(2)}


def test_camvid_is_chosen_on_the_images_without_a_label_and_scored_on_its_val(tmp_path):
    init_default_scope('mmseg')
    root = write_camvid(tmp_path / 'camvid', train=5, val=2)
    args = tool.parse_args(['--task', 'camvid', '--data-root', str(root), '--work-dir', str(tmp_path / 'runs')])
    assert args.out.name == 'camvid_students.jsonl' and args.labels == [60, 250]
    names = {}
    for arm in args.arms:
        cfg = tool.config_of(arm, 2, 1, args)
        loader = cfg.train_dataloader
        further = loader.batch_size if cfg.stages.synthesis else 0
        assert loader.batch_size + further == (4 if arm == 'real + EMA' else 8), arm
        assert cfg.optim_wrapper.type == 'OptimWrapper' and cfg.test_cfg.exploiter == (arm == 'real + EMA')
        parts = (loader.dataset.dataset, cfg.val_dataloader.dataset, cfg.test_dataloader.dataset)
        names[arm] = [sorted(info['img_path'].split('/')[-1] for info in infos(part)) for part in parts]
    assert all(each == names['pasted'] for each in names.values())
    labelled, rest, test = names['pasted']
    assert len(labelled) == 2 and sorted(labelled + rest) == [f'{i:03}.png' for i in range(5)]
    assert test == ['000.png', '001.png'] and str(root) in cfg.test_dataloader.dataset.data_root

    half, whole = (Image.open(folder / 'annotations/train/003.png') for folder in (tmp_path / 'runs/half_size', root))
    np.testing.assert_array_equal(half, np.array(whole)[::2, ::2])
    half, whole = (Image.open(folder / 'images/train/003.png') for folder in (tmp_path / 'runs/half_size', root))
    means = np.array(whole, float).reshape(18, 2, 24, 2, 3).mean((1, 3))
    np.testing.assert_allclose(np.array(half, float), means, atol=0.51)
    # Of all labels nothing is left to choose on.
    assert tool.config_of('pasted', 5, 1, args).val_dataloader.dataset.data_root == str(root)


def test_images_that_follow_labels_are_of_a_generator_that_saw_no_others(args):
    for arm, labels, layout in (('labels, created', 'source', None), ('pasted, created', 'stored', 'ObjectPaste')):
        cfg = tool.config_of(arm, 3, 1, args)
        made = cfg.stages.synthesis
        assert made.controlnet == str(args.work_dir / 'branches' / '3-seed1' / 'controlnet')
        assert (made.T, made.guidance_scale, made.num_samples) == ('noise', 3.0, 600)
        assert cfg.train_dataloader.dataset.labels == labels and (made.get('layout') or {}).get('type') == layout
        assert cfg.model.label_rule.type == 'GivenLabel'


def infos(part: Config) -> list[dict]:
    dataset = DATASETS.build(part)
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def test_the_plain_arms_two_parameter_sets_are_two_rows():
    lines = [dict(arm='real twice', labels=60, seed=0, test=dict(mIoU=30.0))]
    lines += [dict(arm='real + EMA', labels=60, seed=0, test={'mIoU': 29.0, 'exploiter/mIoU': 31.5})]
    assert tool.table(lines).splitlines()[2:] == [
        '| real only (θ_E) | 31.50 (n 1) | +1.50 |',
        '| real + EMA | 29.00 (n 1) | −1.00 |',
        '| real twice | 30.00 (n 1) | – |',
    ]


def test_differences_to_the_control_of_equal_batch(tmp_path, capsys):
    scores = {'real twice': (50.0, 52.0, 54.0), 'pasted': (53.0, 56.0, 59.0)}
    lines = [
        dict(run=f'{arm}, 20 labels', arm=arm, labels=20, seed=seed, test=dict(mIoU=value))
        for arm, values in scores.items()
        for seed, value in enumerate(values)
    ]
    rows = {line.split('|')[1].strip(): line for line in tool.table(lines).splitlines()[2:]}
    assert rows['real twice'] == '| real twice | 52.00 ± 2.00 (n 3) | – |'
    assert rows['pasted'] == '| pasted | 56.00 ± 3.00 (n 3) | +4.00 ± 1.00 (p 0.020) |'
    assert rows.keys() == scores.keys()
    out = tmp_path / 'students.jsonl'
    out.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    tool.main(['--out', str(out), '--dry-run', '--seeds', '0', '--labels', '20', '60', '--arms', 'pasted'])
    assert capsys.readouterr().out.splitlines() == [
        'done   pasted, 20 labels, seed 0',
        'to do  pasted, 60 labels, seed 0',
    ]
