"""The configs of InvPT: published sizes without memory, the recipe in numbers, a step of each with narrow layers."""

from pathlib import Path

import pytest
import torch
from meta_models import on_meta
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS, PARAM_SCHEDULERS
from tiny_invpt import samples
from tiny_nyuv2 import ROOT, WIDTHS, full_size, write_weights

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.training.stages import check_chain, warmup_config

SETS = ['nyud-mt', 'nyud-mt-edge', 'pascal-context', 'pascal-context-edge']
VIT = [*(f'baselines/invpt_{name}' for name in SETS), 'baselines/invpt_vit-b_nyud-mt']
SD = 'baselines/invpt_nyud-mt-sd'
LOOPS = [f'diff2in1/invpt_{name}' for name in SETS]


def config(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{name}.py', format_python_code=False)


def size_of(model, without: str = '') -> int:
    """Parameters, those of a task left out."""
    return sum(tensor.numel() for name, tensor in model.named_parameters() if without not in name.split('.'))


def test_every_config_is_one_of_these():
    found = {str(path.relative_to(ROOT / 'configs').with_suffix('')) for path in (ROOT / 'configs').glob('[bd]*/*.py')}
    assert {name for name in found if 'invpt' in name} == {*VIT, SD, *LOOPS}


@pytest.mark.parametrize(
    ('name', 'parameters'),
    [
        ('baselines/invpt_nyud-mt-edge', 402_092_888 - 6_639_562),
        ('baselines/invpt_pascal-context-edge', 422_929_810 - 6_972_202),
        ('baselines/invpt_nyud-mt', None),
        ('baselines/invpt_pascal-context', None),
        ('baselines/invpt_vit-b_nyud-mt', 140_312_476),
        (SD, None),
    ],
)
def test_full_size_on_the_meta_device(name, parameters, tmp_path):
    """As many parameters as published, less those without effect; outputs of the size of the images.

    Without edges: less what is theirs. ViT-B is ours: written out.
    """
    cfg = full_size(name, tmp_path)
    model = on_meta(cfg).eval()
    if parameters is not None:
        assert size_of(model) == parameters
    elif name != SD:
        assert size_of(model) == size_of(on_meta(full_size(f'{name}-edge', tmp_path)), without='edge')
    if name == SD:
        model.backbone._range_checked = True  # needs values
    size = tuple(cfg.crop_size)
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size)
    output = model.encode_decode(torch.zeros(1, 3, *size, device='meta'), [meta])
    assert output.shape == (1, model.tasks.channels, *size)


@pytest.mark.parametrize('name', LOOPS)
def test_the_loop_at_full_size(name):
    """θ_C and θ_E, each as large as the baseline."""
    plain = on_meta(config(name.replace('diff2in1', 'baselines')))
    assert size_of(on_meta(config(name))) == 2 * size_of(plain)


@pytest.mark.parametrize('name', LOOPS)
def test_the_loop_goes_on_from_the_baseline(name):
    cfg, plain = config(name), config(name.replace('diff2in1', 'baselines'))
    check_chain(cfg)
    assert cfg.model.segmentor == plain.model and cfg.model.normalize_by == 'pooled'
    warmup = warmup_config(cfg, Path('warmup'))
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'global_batch_size'):
        assert warmup[key] == plain[key], key
    (hook,) = [each for each in cfg.custom_hooks if each['type'] == 'SelfImprovingHook']
    alpha, amount = (0.999, ('samples_per_image', 1)) if 'pascal' in name else (0.998, ('num_samples', 500))
    assert (cfg.global_batch_size, hook['alpha'], hook['samples_per_update']) == (1, alpha, 40)
    assert cfg.stages.synthesis[amount[0]] == amount[1]


@pytest.mark.parametrize('name', [*VIT, SD])
def test_the_recipe(name):
    """Plain Adam on one group of everything; power 0.9 down to 0 without a warm-up; nothing is clipped."""
    cfg = config(name)
    init_default_scope('mmseg')
    wrapper = build_optim_wrapper(torch.nn.BatchNorm2d(1), cfg.optim_wrapper)
    (group,) = wrapper.optimizer.param_groups
    assert type(wrapper.optimizer) is torch.optim.Adam and len(group['params']) == 2
    assert (group['lr'], group['weight_decay'], group['betas']) == (2e-5, 1e-6, (0.9, 0.999))
    assert not wrapper.clip_grad_kwargs
    assert (cfg.global_batch_size, cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (6, 40000, 1000)
    (scheduler,) = [PARAM_SCHEDULERS.build(dict(each, optimizer=wrapper.optimizer)) for each in cfg.param_scheduler]
    for step in range(2001):
        if step % 500 == 0:
            assert group['lr'] == pytest.approx(2e-5 * (1 - step / 39999) ** 0.9, rel=1e-6)
        scheduler.step()
    wanted = dict(cfg.data_preprocessor, **(dict(mean=[127.5] * 3, std=[127.5] * 3) if name == SD else {}))
    assert cfg.model.data_preprocessor == wanted and wanted['size'] == cfg.crop_size
    head = cfg.model.decode_head.get('head', cfg.model.decode_head)
    assert list(cfg.model.task) == list(cfg.set_tasks) == list(head.tasks)


@pytest.mark.parametrize('name', [*VIT, *LOOPS])
def test_a_step_with_narrow_layers(name):
    """Created images, where the model knows any, are labelled by θ_C in all tasks."""
    cfg = config(name)
    segmentor = cfg.model.get('segmentor', cfg.model)
    segmentor.backbone.update(img_size=(64, 128), width=32, depth=4, heads=2)
    segmentor.decode_head.update(in_channels=[32] * 3, channels=8, widths=[12, 8, 4])
    for tasks in (segmentor.task, segmentor.decode_head.tasks):
        tasks.semantic_segmentation.num_classes = 5
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    batch = samples(*segmentor.task)
    batch[1].set_metainfo(dict(synthetic=True))
    losses = model.loss(torch.randn(2, 3, 64, 128), batch)
    ends = ('loss', 'loss_preliminary')
    assert {key for key in losses if 'loss' in key} == {f'decode.{t}.{end}' for t in segmentor.task for end in ends}
    assert ('kept_share/normal' in losses) == (name in LOOPS)
    model.parse_losses(losses)[0].backward()
    trained = getattr(model, 'exploiter', model)
    assert all(parameter.grad is not None for parameter in trained.parameters())


def test_a_step_on_diffusion_features(tmp_path):
    """Narrow levels of a U-Net through the adapter; the U-Net is frozen, all else learns."""
    cfg = config(SD)
    cfg.model.backbone.update(diffusion=str(write_weights(tmp_path / 'weights')), bf16=False)
    cfg.model.neck.update(
        in_channels=list(WIDTHS), in_strides=[2, 4, 8, 16], out_channels=[8, 8, 8], out_strides=[8, 16, 32]
    )
    cfg.model.decode_head.head.update(in_channels=[8] * 3, channels=8, widths=[12, 8, 4])
    for tasks in (cfg.model.task, cfg.model.decode_head.head.tasks):
        tasks.semantic_segmentation.num_classes = 5
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    losses = model.loss(torch.rand(2, 3, 64, 128) * 2 - 1, samples(*cfg.model.task))
    model.parse_losses(losses)[0].backward()
    trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    assert trained and not any('unet' in name or 'vae' in name for name in trained)
    assert [name for name, tensor in trained.items() if tensor.grad is None] == []
