"""The configs of normals and depth: built at full size without memory, run on tiny data, recipes as numbers."""

from pathlib import Path

import pytest
import torch
from meta_models import on_meta
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import PARAM_SCHEDULERS
from tiny_nyuv2 import ROOT, full_size, narrow, write_nyuv2, write_weights

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.training.chain import build_runner, train
from mmdiff2in1.training.global_batch import split_global_batch
from mmdiff2in1.training.stages import check_chain, warmup_config

BAE = [f'diff2in1/bae_nyuv2-normal{end}' for end in ('', '-released', '-T200', '-T400', '-T800')]
SD = [
    *BAE,
    'baselines/bae_nyuv2-normal-sd',
    'baselines/bae_nyuv2-normal-released',
    'baselines/bae_nyuv2-normal-ema',
    'diff2in1/bae_scannet-normal',
    'baselines/bae_scannet-normal',
    'diff2in1/idisc_nyuv2-normal',
    'baselines/idisc_nyuv2-normal-sd',
    'baselines/idisc_nyuv2-normal-ema',
    'diff2in1/vpd_nyu-depth',
    'baselines/vpd_nyu-depth',
    'diff2in1/metaprompts_nyu-depth',
    'baselines/metaprompts_nyu-depth',
]
CHAINS = [
    *BAE[:2],
    'diff2in1/idisc_nyuv2-normal',
    'diff2in1/vpd_nyu-depth',
    'diff2in1/metaprompts_nyu-depth',
]
PLAIN = ['baselines/bae_nyuv2-normal', 'baselines/idisc_nyuv2-normal']
# Whose segmentors have all others; the last is wrapped.
DISTINCT = [
    *PLAIN,
    'baselines/bae_nyuv2-normal-sd',
    'baselines/bae_nyuv2-normal-released',
    'baselines/bae_scannet-normal',
    'baselines/idisc_nyuv2-normal-sd',
    'baselines/vpd_nyu-depth',
    'baselines/metaprompts_nyu-depth',
    'diff2in1/bae_nyuv2-normal',
]


def test_every_config_is_one_of_these():
    paths = (ROOT / 'configs').glob('[bd]*/*.py')
    found = {str(path.relative_to(ROOT / 'configs').with_suffix('')) for path in paths}
    assert {name for name in found if ('nyu' in name and 'nyud' not in name) or 'scannet' in name} == {*SD, *PLAIN}


def config(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def test_the_others_have_the_segmentors_of_these():
    """Around them stands the wrapper with the settings of the paper: one loss of all samples, else its defaults."""
    segmentors = [config(name).model for name in DISTINCT[:-1]]
    for name in SD:
        model = config(name).model
        if model.type == 'SelfImprovingSegmentor':
            draws = {'share_draws'} if 'released' in name else set()
            assert model.keys() == {'type', 'segmentor', 'normalize_by'} | draws, name
            assert model.normalize_by == 'pooled', name
        assert model.get('segmentor', model) in segmentors, name


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """One for all, so that equal models have equal configs."""
    return tmp_path_factory.mktemp('full-size')


@pytest.mark.parametrize('name', DISTINCT)
def test_full_size_on_the_meta_device(name, folder):
    """An output of the task's channels at the size of the image, 480 × 640 or the window of VPD."""
    model = on_meta(full_size(name, folder)).eval()
    if name == DISTINCT[-1]:  # its models are those of the third
        assert not any(parameter.requires_grad for parameter in model.creator.parameters())
        return
    model.backbone._range_checked = True  # needs values
    size = (512, 512) if 'released' in name else (480, 480) if 'depth' in name else (480, 640)
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size, category_id=3)
    output = model.encode_decode(torch.zeros(1, 3, *size, device='meta'), [meta])
    assert output.shape == (1, 1 if 'depth' in name else 4, *size)
    assert model.tasks.channels == output.shape[1]


@pytest.mark.parametrize('name', ['baselines/bae_nyuv2-normal', 'diff2in1/bae_nyuv2-normal'])
def test_one_cycle_as_torch_has_it(name):
    """Rate and first momentum of every step, against PyTorch's own scheduler."""
    cfg = config(name)
    init_default_scope('mmseg')
    steps = cfg.train_cfg.max_iters
    ours, theirs = (
        torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate, betas=(0.95, 0.999))
        for rate in (cfg.optim_wrapper.optimizer.lr, 3.57e-4)
    )
    reference = torch.optim.lr_scheduler.OneCycleLR(
        theirs, 3.57e-4, total_steps=steps, div_factor=25, final_div_factor=1e4
    )
    schedulers = [PARAM_SCHEDULERS.build(dict(each, optimizer=ours)) for each in cfg.param_scheduler]
    for step in range(steps - 1):
        if step % 97 == 0 or step > steps - 5:
            one, other = ours.param_groups[0], theirs.param_groups[0]
            assert one['lr'] == pytest.approx(other['lr'], rel=3e-3, abs=1e-9), step
            # Whole steps: PyTorch turns at 296.0, ours as well; at 483.5 the nearest.
            assert one['betas'][0] == pytest.approx(other['betas'][0], abs=5e-4), step
        ours.step()
        theirs.step()
        reference.step()
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize('name', ['baselines/bae_scannet-normal', 'diff2in1/bae_scannet-normal'])
def test_a_longer_cycle_is_the_same_cycle(name):
    cfg, short = config(name), config('baselines/bae_nyuv2-normal')
    steps = cfg.train_cfg.max_iters
    turn, end = round(0.3 * steps - 1), steps - 1  # as PyTorch counts them
    for each, other, (begin, stop) in zip(
        cfg.param_scheduler, short.param_scheduler, 2 * [(0, turn), (turn, end)], strict=True
    ):
        assert each == dict(other, begin=begin, end=stop)


def test_recipe_of_idisc(folder):
    """A tenth of the rate in the backbone; constant for 30 % of the steps, then down to a tenth."""
    cfg = full_size('baselines/idisc_nyuv2-normal', folder)
    model = on_meta(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert isinstance(wrapper, OptimWrapper)
    rates = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    backbone = {id(p) for p in model.backbone.parameters()}
    assert [rate for p, rate in rates.items() if p in backbone] == pytest.approx([3e-5] * len(rates.keys() & backbone))
    assert [rate for p, rate in rates.items() if p not in backbone] == pytest.approx(
        [3e-4] * len(rates.keys() - backbone)
    )
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=3e-4, betas=(0.95, 0.999))
    reference = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=3e-4, betas=(0.95, 0.999))
    cycle = torch.optim.lr_scheduler.OneCycleLR(reference, 3e-4, total_steps=1160, div_factor=1, final_div_factor=10)
    schedulers = [PARAM_SCHEDULERS.build(dict(each, optimizer=optimizer)) for each in cfg.param_scheduler]
    for step in range(1159):
        if step % 50 == 0:
            one, other = optimizer.param_groups[0], reference.param_groups[0]
            assert one['lr'] == pytest.approx(other['lr'], rel=1e-6), step
            assert one['betas'][0] == pytest.approx(other['betas'][0], abs=1e-5), step
        optimizer.step()
        reference.step()
        cycle.step()
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize('name', ['baselines/vpd_nyu-depth', 'baselines/metaprompts_nyu-depth'])
def test_recipe_of_vpd_depth(name, folder):
    """5e-4, the U-Net at a hundredth; no decay on what has one dimension."""
    cfg = full_size(name, folder)
    model = on_meta(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {id(p): group for group in wrapper.optimizer.param_groups for p in group['params']}
    unet = {id(p) for p in model.backbone.diffusion.unet.parameters()}
    checked = 0
    for tensor, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = groups[id(parameter)]
            assert group['lr'] == pytest.approx(5e-6 if id(parameter) in unet else 5e-4), tensor
            assert group['weight_decay'] == (0 if parameter.ndim == 1 else 0.1), tensor
            checked += 1
    assert checked == len(groups)


def test_rates_of_vpd_depth():
    """3e-5 at both ends."""
    cfg, other = config('baselines/vpd_nyu-depth'), config('baselines/metaprompts_nyu-depth')
    assert all(other[key] == cfg[key] for key in ('param_scheduler', 'train_cfg', 'global_batch_size'))
    init_default_scope('mmseg')
    per_process = -(-24231 // 8) // 3  # full batches of 3, in each of 8 processes
    assert cfg.train_cfg.max_iters == 25 * per_process and cfg.global_batch_size == 8 * 3
    small, large = (torch.nn.Parameter(torch.zeros(1)) for _ in '12')
    optimizer = torch.optim.AdamW([dict(params=[small], lr=5e-6), dict(params=[large], lr=5e-4)])
    schedulers = [PARAM_SCHEDULERS.build(dict(each, optimizer=optimizer)) for each in cfg.param_scheduler]
    rates = []
    for _ in range(cfg.train_cfg.max_iters):
        rates.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    # VPD's formula, whose steps count from 1: up for 12 epochs, down for 12, then flat.
    for step, (of_unet, rate) in enumerate(rates, 1):
        time = step / per_process / 12
        rise, fall = 3e-5 + 4.7e-4 * time**0.9, 5e-4 - 4.7e-4 * max(0, time - 1) ** 0.9
        assert rate == pytest.approx(rise if time < 1 else max(3e-5, fall)), step
        assert of_unet == pytest.approx(rate / 100), step


def test_presets_paper_and_released():
    paper, released = map(config, BAE[:2])
    hook, theirs = (cfg.custom_hooks[1] for cfg in (paper, released))
    assert (paper.global_batch_size, hook['alpha'], hook['samples_per_update']) == (4, 0.998, 40)
    assert (released.global_batch_size, theirs['alpha'], theirs['samples_per_update']) == (8, 0.998, 80)
    assert (paper.stages.synthesis.num_samples, released.stages.synthesis.num_samples) == (500, 795)
    assert (paper.stages.synthesis.grid, released.stages.synthesis.grid) == ('even', 'released')
    warmup = warmup_config(released, Path('warmup'))
    assert warmup.model.backbone.feature == dict(preset='released')
    assert warmup.optim_wrapper.optimizer == dict(type='Adam', lr=3.57e-4)
    assert warmup.param_scheduler is None and warmup.optim_wrapper.clip_grad is None
    assert [step['type'] for step in warmup.train_dataloader.dataset.dataset.pipeline] == [
        'LoadImageFromFile',
        'LoadDenseAnnotation',
        'DenseResize',
        'PackDenseInputs',
    ]
    # 50 epochs of 99 full batches, and of 795 + 795 samples.
    assert warmup.train_cfg.max_iters == 50 * (795 // 8) and released.train_cfg.max_iters == 50 * (1590 // 8)
    assert paper.train_cfg.max_iters == 5 * (1295 // 4)
    plain = config('baselines/bae_nyuv2-normal-sd')
    own = warmup_config(paper, Path('warmup'))
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'global_batch_size'):
        assert own[key] == plain[key], key


@pytest.mark.parametrize('T', [200, 400, 800])
def test_the_ablation_changes_one_number(T):
    cfg, whole = config(f'diff2in1/bae_nyuv2-normal-T{T}'), config('diff2in1/bae_nyuv2-normal')
    assert cfg.stages.synthesis.pop('T') == T and whole.stages.synthesis.pop('T') == 600
    assert cfg.stages.warmup.pop('work_dir') == 'work_dirs/bae_nyuv2-normal/warmup'
    assert cfg.to_dict() == whole.to_dict()


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> tuple[Path, Path]:
    """Data and weights."""
    folder = tmp_path_factory.mktemp('nyuv2')
    return write_nyuv2(folder / 'data'), write_weights(folder / 'weights')


@pytest.mark.parametrize('name', [*CHAINS, *PLAIN])
def test_a_training_step(name, tiny, tmp_path):
    cfg = narrow(name, *tiny)
    if 'stages' in cfg:
        check_chain(cfg)
    cfg.work_dir, cfg.train_cfg.max_iters = str(tmp_path), 1
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    split_global_batch(cfg, 1)
    runner = build_runner(cfg)
    before = {n: p.detach().clone() for n, p in runner.model.named_parameters() if p.requires_grad}
    runner.train()
    moved = [n for n, p in runner.model.named_parameters() if n in before and not torch.equal(p, before[n])]
    assert runner.iter == 1 and any('decode_head' in n for n in moved)
    assert not any('creator' in n for n in moved)


@pytest.mark.slow
@pytest.mark.parametrize('name', CHAINS)
def test_the_chain_on_tiny_weights(name, tiny, tmp_path):
    """Warm-up, creation, self-improving with pseudo labels inside the valid box, test."""
    results = train(narrow(name, *tiny), tmp_path / 'run')
    assert results['warmup']['iters'] == results['self_improving']['iters'] == 2
    figure = 'depth/rmse' if 'depth' in name else 'normal/mean'
    assert 0 < results['test'][figure] < 180 and 0 < results['test'][f'exploiter/{figure}'] < 180
