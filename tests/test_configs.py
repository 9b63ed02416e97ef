"""The configs of the published experiments: built at full size without memory, run on tiny data, recipes as numbers."""

import ast
import math
from pathlib import Path

import pytest
import torch
from meta_models import on_meta
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, PARAM_SCHEDULERS
from tiny_ade20k import ROOT, full_size, narrow, write_ade20k, write_weights

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.datasets.splits import image_names, make_splits, write_splits
from mmdiff2in1.training.chain import build_runner, train
from mmdiff2in1.training.global_batch import split_global_batch
from mmdiff2in1.training.stages import warmup_config

WHOLE = ['baselines/vpd_ade20k', 'diff2in1/vpd_ade20k']
SHARE = [f'{name}-share' for name in WHOLE]
VPD = [*WHOLE, *SHARE, 'baselines/vpd_ade20k-ema', 'diff2in1/vpd_ade20k-bs16']
CONFIGS = sorted(str(p.relative_to(ROOT / 'configs').with_suffix('')) for p in (ROOT / 'configs').glob('[bd]*/*.py'))


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Data, weights and class embeddings."""
    folder = tmp_path_factory.mktemp('ade20k')
    return write_ade20k(folder / 'data'), write_weights(folder / 'weights'), folder / 'classes.pth'


def test_every_config_is_one_of_these():
    assert {name for name in CONFIGS if 'vpd_ade' in name} == {*VPD}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_config_says_only_what_differs(name):
    """At most 20 lines of code; what mmengine makes of them is whole, and nothing of the recipe is left in it."""
    file = ROOT / 'configs' / f'{name}.py'
    text = file.read_text()
    docstring = ast.parse(text).body[0].end_lineno
    code = [line for line in map(str.strip, text.splitlines()[docstring:]) if line and line[0] != '#']
    assert len(code) <= 20
    expanded = Config.fromfile(file)
    assert not any(callable(value) for value in expanded.to_dict().values())
    assert ('stages' in expanded) == (expanded.model.type == 'SelfImprovingSegmentor')


def test_the_others_have_the_models_of_these():
    models = [Config.fromfile(ROOT / 'configs' / f'{name}.py').model for name in WHOLE]
    assert models[1].segmentor == models[0]
    for name in VPD:
        assert Config.fromfile(ROOT / 'configs' / f'{name}.py').model in models, name


@pytest.fixture(scope='module')
def embeddings(tmp_path_factory) -> Path:
    """One file for all, so that equal models have equal configs."""
    return tmp_path_factory.mktemp('embeddings') / 'classes.pth'


@pytest.mark.parametrize('name', WHOLE)
def test_full_size_on_the_meta_device(name, embeddings):
    """Shapes and numbers of parameters at 512², and at a size that is not square, as VPD has them; the twin's models
    are the plain one, see above."""
    model = on_meta(full_size(name, embeddings))
    exploiter = getattr(model, 'exploiter', model)
    counts = {part: trained(getattr(exploiter, part)) for part in ('backbone', 'neck', 'decode_head')}
    unread = 2 * 320 + 320 * 4 * 9 + 4  # the U-Net's last norm and convolution, behind the last tap
    adapter = 2 * (768 * 768 + 768) + 768
    neck = sum(256 * (width + 1) for width in (320, 790, 1430, 1280)) + 4 * 256 * (256 * 9 + 1)
    head = 7 * (256 * 256 * 9 + 2 * 256) + 150 * (256 + 1)
    assert counts == {'backbone': 859_520_964 - unread + adapter, 'neck': neck, 'decode_head': head}
    assert exploiter.backbone.out_channels == [320, 790, 1430, 1280]
    if exploiter is not model:
        assert trained(model.creator) == 0
        return
    exploiter.eval()
    exploiter.backbone._range_checked = True  # needs values
    for height, width in ((512, 512), (512, 704)):
        levels = exploiter.backbone(torch.zeros(1, 3, height, width, device='meta'))
        assert [tuple(level.shape[2:]) for level in levels] == [(height // n, width // n) for n in (8, 16, 32, 64)]
        logits = exploiter.decode_head(exploiter.neck(levels))
        assert logits.shape == (1, 150, height // 8, width // 8)


def trained(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_the_recipe(embeddings):
    """Learning rate and weight decay of every parameter, as the schedule's docstring says; the rate in closed form."""
    cfg = full_size('baselines/vpd_ade20k', embeddings)
    model = on_meta(cfg)
    init_default_scope('mmseg')
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert len(wrapper.optimizer.param_groups) == 4  # not one for each of the 700 tensors
    norms = (torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.modules.batchnorm._BatchNorm)
    of_norms = {id(p) for m in model.modules() if isinstance(m, norms) for p in m.parameters()}
    of_unet = {id(p) for p in model.backbone.diffusion.unet.parameters()}
    groups = {id(p): group for group in wrapper.optimizer.param_groups for p in group['params']}
    checked = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = groups[id(parameter)]
            assert group['lr'] == pytest.approx(8e-6 if id(parameter) in of_unet else 8e-5), name
            assert group['weight_decay'] == (0 if id(parameter) in of_norms else 1e-3), name
            checked += 1
    assert checked == len(groups)
    assert cfg.global_batch_size == 16 and cfg.train_cfg.max_iters == 80000
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=8e-5)
    schedulers = [PARAM_SCHEDULERS.build(dict(each, optimizer=optimizer)) for each in cfg.param_scheduler]
    for step in range(80000):
        if step in (0, 1, 749, 1500, 1501, 40000, 79999):
            warm = 1 - (1 - 1e-6) * (1 - min(step, 1499) / 1499)
            assert optimizer.param_groups[0]['lr'] == pytest.approx(8e-5 * (1 - step / 79999) * warm, abs=1e-12)
        for scheduler in schedulers:
            scheduler.step()


def test_the_stages():
    cfg = Config.fromfile(ROOT / 'configs/diff2in1/vpd_ade20k.py')
    warmup = warmup_config(cfg, Path('warmup'))
    plain = Config.fromfile(ROOT / 'configs/baselines/vpd_ade20k.py')
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'global_batch_size'):
        assert warmup[key] == plain[key], key
    assert warmup.train_dataloader.dataset.dataset == plain.train_dataloader.dataset
    assert (cfg.global_batch_size, cfg.custom_hooks[1]['alpha'], cfg.custom_hooks[1]['samples_per_update']) == (
        4,
        0.998,
        40,
    )
    assert (cfg.stages.synthesis.samples_per_image, cfg.stages.synthesis.num_calls) == (1, 50)
    ours = Config.fromfile(ROOT / 'configs/diff2in1/vpd_ade20k-bs16.py')
    assert ours.global_batch_size * ours.train_cfg.max_iters == cfg.global_batch_size * cfg.train_cfg.max_iters
    assert warmup_config(ours, Path('warmup')).param_scheduler == warmup.param_scheduler


@pytest.mark.parametrize('name', SHARE)
def test_a_share_changes_the_split_and_the_place_alone(name, monkeypatch):
    for share in (None, '30', '0.5'):
        if share:
            monkeypatch.setenv('SHARE', share)
        cfg, whole = (Config.fromfile(ROOT / 'configs' / f'{each}.py') for each in (name, name.removesuffix('-share')))
        dataset = cfg.train_dataloader.dataset.get('dataset', cfg.train_dataloader.dataset)
        assert dataset.pop('ann_file') == f'splits/{share or 10}pct-seed0.txt'
        assert cfg.pop('work_dir') == f'work_dirs/vpd_ade20k-{share or 10}pct'
        assert cfg.to_dict() == whole.to_dict()


def test_without_samples_only_the_stages_differ():
    cfg, whole = (
        Config.fromfile(ROOT / 'configs' / f'{name}.py').to_dict() for name in ('baselines/vpd_ade20k-ema', WHOLE[1])
    )
    warmup = whole['stages']['warmup'] | dict(work_dir='work_dirs/vpd_ade20k/warmup')
    assert cfg == whole | dict(stages=dict(warmup=warmup, synthesis=None))


def test_the_environment_names_the_weights(monkeypatch):
    monkeypatch.setenv('SD_WEIGHTS', 'some/where.safetensors')
    cfg = Config.fromfile(ROOT / 'configs/diff2in1/vpd_ade20k.py')
    assert cfg.model.segmentor.backbone.diffusion == cfg.stages.synthesis.diffusion == 'some/where.safetensors'


@pytest.mark.slow
def test_the_chain_on_tiny_weights(tiny, tmp_path):
    """Warm-up with batch 4, creation, self-improving with batch 4, test in slide mode over images of 32 × 48."""
    cfg = narrow('diff2in1/vpd_ade20k', *tiny)
    results = train(cfg, tmp_path / 'run')
    assert results['warmup']['iters'] == results['self_improving']['iters'] == 2
    assert math.isfinite(results['test']['mIoU']) and 'exploiter/mIoU' in results['test']
    assert len(list((tmp_path / 'run' / 'synthetic').rglob('*.png'))) >= 4


def test_a_share_of_the_images(tiny, monkeypatch):
    monkeypatch.setenv('SHARE', '50')
    cfg = narrow(SHARE[0], *tiny)
    names = image_names(tiny[0] / 'images/training', '.jpg')
    write_splits(tiny[0] / 'splits', make_splits(names, seed=0, percents=[50]))
    init_default_scope('mmseg')
    assert len(names) == 4 and len(DATASETS.build(cfg.train_dataloader.dataset)) == 2


@pytest.mark.parametrize('name', WHOLE)
def test_a_training_step(name, tiny, tmp_path):
    cfg = narrow(name, *tiny)
    cfg.work_dir, cfg.train_cfg.max_iters = str(tmp_path), 1
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = (
        None
    )
    split_global_batch(cfg, 1)
    runner = build_runner(cfg)
    before = {n: p.detach().clone() for n, p in runner.model.named_parameters() if p.requires_grad}
    runner.train()
    moved = [n for n, p in runner.model.named_parameters() if n in before and not torch.equal(p, before[n])]
    assert runner.iter == 1 and runner.train_dataloader.batch_size == cfg.global_batch_size
    assert any('unet' in n for n in moved) and any('decode_head' in n for n in moved)
