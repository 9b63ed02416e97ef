"""The configs of TaskPrompter: published sizes without memory, the recipe in numbers, a step of each, narrow."""

from pathlib import Path

import pytest
import torch
from meta_models import on_meta
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS, PARAM_SCHEDULERS
from mmseg.structures import SegDataSample
from tiny_taskprompter import target

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.tasks import TaskSet
from mmdiff2in1.training.stages import check_chain, warmup_config

ROOT = Path(__file__).parents[1]
SETS = ['nyud-mt', 'nyud-mt-edge', 'pascal-context', 'pascal-context-edge']
BASELINES = [*(f'baselines/taskprompter_{name}' for name in SETS), 'baselines/taskprompter_vit-b_pascal-context-edge']
LOOPS = [f'diff2in1/taskprompter_{name}' for name in SETS]


def config(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{name}.py', format_python_code=False)


def test_every_config_is_one_of_these():
    found = {str(path.relative_to(ROOT / 'configs').with_suffix('')) for path in (ROOT / 'configs').glob('[bd]*/*.py')}
    assert {name for name in found if 'taskprompter' in name} == {*BASELINES, *LOOPS}


@pytest.mark.parametrize(
    ('name', 'published'),
    [
        ('baselines/taskprompter_nyud-mt-edge', 513_505_709),
        ('baselines/taskprompter_pascal-context-edge', 401_104_864),
        ('baselines/taskprompter_vit-b_pascal-context-edge', 418_332_214),
    ],
)
def test_full_size_on_the_meta_device(name, published):
    """As many parameters as published, less the last W2 and the class token's position; outputs of the image's size."""
    cfg = config(name)
    model = on_meta(cfg).eval()
    width, (height, columns) = cfg.model.backbone.width, cfg.model.backbone.img_size
    positions = height * columns // 256
    dead = positions * width + width + width
    assert sum(parameter.numel() for parameter in model.parameters()) == published - dead
    size = (height, columns)
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size)
    output = model.encode_decode(torch.zeros(1, 3, *size, device='meta'), [meta])
    assert output.shape == (1, model.tasks.channels, *size)


def size_of(model, without: str = '') -> int:
    """Parameters, those of a task left out."""
    return sum(tensor.numel() for name, tensor in model.named_parameters() if without not in name.split('.'))


@pytest.mark.parametrize('name', BASELINES[:4:2])
def test_full_size_without_edges(name):
    """As large as with them, less what is theirs; two of a kind in the loop, θ_C and θ_E."""
    plain, edges = on_meta(config(name)), on_meta(config(f'{name}-edge'))
    assert size_of(plain) == size_of(edges, without='edge') < size_of(edges)
    for own, end in ((plain, ''), (edges, '-edge')):
        loop = on_meta(config(name.replace('baselines', 'diff2in1') + end))
        assert size_of(loop) == 2 * size_of(own)


@pytest.mark.parametrize('name', LOOPS)
def test_the_loop_trains_what_the_baseline_trains(name):
    cfg, plain = config(name), config(name.replace('diff2in1', 'baselines'))
    check_chain(cfg)
    assert cfg.model.segmentor == plain.model and cfg.model.normalize_by == 'pooled'
    warmup = warmup_config(cfg, Path('warmup'))
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'global_batch_size'):
        assert warmup[key] == plain[key], key
    pascal = 'pascal' in name
    hook = next(each for each in cfg.custom_hooks if each['type'] == 'SelfImprovingHook')
    assert (cfg.global_batch_size, hook['alpha'], hook['samples_per_update']) == (1, 0.999 if pascal else 0.998, 40)
    counts = cfg.stages.synthesis.get('num_samples'), cfg.stages.synthesis.get('samples_per_image')
    assert counts == ((None, 1) if pascal else (500, None))


@pytest.mark.parametrize('name', BASELINES)
def test_the_recipe(name):
    """One group of all parameters under plain Adam; the rate falls with power 0.9 to 0, without a warm-up."""
    cfg = config(name)
    init_default_scope('mmseg')
    rate = 1e-5 if 'nyud' in name else 2e-5
    weight = torch.nn.Linear(1, 1)
    wrapper = build_optim_wrapper(weight, cfg.optim_wrapper)
    (group,) = wrapper.optimizer.param_groups
    assert type(wrapper.optimizer) is torch.optim.Adam and len(group['params']) == 2
    assert (group['lr'], group['weight_decay'], group['betas']) == (rate, 1e-6, (0.9, 0.999))
    assert wrapper.clip_grad_kwargs == dict(max_norm=10.0)
    assert cfg.global_batch_size == 4 and cfg.train_cfg.max_iters == 40000
    schedulers = [PARAM_SCHEDULERS.build(dict(each, optimizer=wrapper.optimizer)) for each in cfg.param_scheduler]
    for step in range(3000):
        if step % 100 == 0:
            assert group['lr'] == pytest.approx(rate * (1 - step / 39999) ** 0.9, rel=1e-6)
        for scheduler in schedulers:
            scheduler.step()
    assert cfg.model.data_preprocessor == cfg.data_preprocessor and cfg.data_preprocessor.size == cfg.crop_size
    assert tuple(cfg.model.task) == tuple(cfg.set_tasks) == tuple(cfg.model.backbone.tasks)


@pytest.mark.parametrize('name', [*BASELINES, *LOOPS])
def test_a_step_of_a_narrow_model(name):
    """Images of 64 × 128; created ones, where there are any, are labelled by θ_C in all tasks."""
    cfg = config(name)
    segmentor = cfg.model.get('segmentor', cfg.model)
    segmentor.backbone.update(
        img_size=(64, 128), width=16, depth=4, heads=2, taps=(1, 2, 3, 4), embed_channels=6, channels=8
    )
    segmentor.decode_head.channels = 8
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=1e-6)
    samples, size = [], (64, 128)
    generator = torch.Generator().manual_seed(0)
    for synthetic in (False, True):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, synthetic=synthetic))
        for task in TaskSet(segmentor.task).values():
            sample.set_data({task.field: PixelData(data=target(task, size, generator))})
        samples.append(sample)
    losses = model.loss(torch.randn(2, 3, *size, generator=generator), samples)
    assert {key for key in losses if 'loss' in key} == {f'decode.{task}.loss' for task in segmentor.task}
    kept = {key for key in losses if key.startswith('kept_share/')}
    assert kept == ({f'kept_share/{task}' for task in segmentor.task} if 'diff2in1' in name else set())
    model.parse_losses(losses)[0].backward()
    exploiter = getattr(model, 'exploiter', model)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in exploiter.parameters())
    before = exploiter.backbone.prompts['normal'].detach().clone()
    optimizer.step()
    assert not torch.equal(before, exploiter.backbone.prompts['normal'])
