"""The configs of MetaPrompts on ADE20K: published shapes at full size, the recipe, the chain on tiny data.

Those of depth stand among all of depth: `test_dense_configs.py`.
"""

import math
from pathlib import Path

import pytest
import torch
from meta_models import on_meta
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from tiny_ade20k import ROOT, full_size, narrow, write_ade20k, write_weights

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.converters.metaprompts import LAYOUTS
from mmdiff2in1.training.chain import build_runner, train
from mmdiff2in1.training.global_batch import split_global_batch
from mmdiff2in1.training.stages import warmup_config

PLAIN, TWIN = 'baselines/metaprompts_ade20k', 'diff2in1/metaprompts_ade20k'
DEPTH = 'baselines/metaprompts_nyu-depth'
SEGMENTATION_SHAPES = {
    'meta_prompts': (150, 768),
    't1': (1, 1280),
    't3': (1, 1280),
    'upconv1.0.weight': (768, 320, 3, 3),
    'upconv2.0.weight': (768, 640, 3, 3),
    'upconv3.0.weight': (768, 1280, 3, 3),
    'upconv4.0.weight': (768, 1280, 3, 3),
    'upconv4.1.bias': (768,),
    'unet.unet.diffusion_model.input_blocks.0.0.weight': (320, 4, 3, 3),
    'unet.unet.diffusion_model.time_embed.2.weight': (1280, 1280),
    'unet.unet.diffusion_model.out.2.weight': (4, 320, 3, 3),
    'encoder_vq.quant_conv.weight': (8, 8, 1, 1),
    'decode_head.psp_modules.3.1.conv.weight': (512, 150, 1, 1),
    'decode_head.bottleneck.conv.weight': (512, 150 + 4 * 512, 3, 3),
    'decode_head.lateral_convs.2.conv.weight': (512, 150, 1, 1),
    'decode_head.fpn_bottleneck.conv.weight': (512, 4 * 512, 3, 3),
    'decode_head.conv_seg.weight': (150, 512, 1, 1),
    'auxiliary_head.convs.0.conv.weight': (512, 150, 3, 3),
    'auxiliary_head.conv_seg.weight': (150, 512, 1, 1),
}
DEPTH_SHAPES = {
    'encoder.meta_prompts1': (50, 768),
    'encoder.meta_prompts3': (50, 768),
    'encoder.t2': (1, 1280),
    'encoder.text_adapter3.fc.2.weight': (768, 768),
    'encoder.layer1.0.weight': (320, 320, 3, 3),
    'encoder.layer2.deconv_layers.0.weight': (640, 32, 4, 4),
    'encoder.layer2.conv_layers.0.weight': (640, 32, 3, 3),
    'encoder.layer4.deconv_layers.6.weight': (32, 32, 4, 4),
    'encoder.layer4.conv_layers.1.running_var': (1280,),
    'encoder.out_layer.0.weight': (768, 3520, 3, 3),
    'encoder.unet.unet.diffusion_model.out.0.weight': (320,),
    'decoder.deconv_layers.0.weight': (50, 32, 2, 2),
    'decoder.conv_layers.0.weight': (192, 32, 3, 3),
    'last_layer_depth.0.weight': (192, 192, 3, 3),
    'last_layer_depth.2.weight': (1, 192, 3, 3),
}


def config(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{name}.py', format_python_code=False)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """One for all, so that equal models have equal configs."""
    return tmp_path_factory.mktemp('full-size')


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Data, weights, and where class embeddings would be."""
    folder = tmp_path_factory.mktemp('ade20k')
    return write_ade20k(folder / 'data'), write_weights(folder / 'weights'), folder / 'classes.pth'


def trained(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ('name', 'task', 'expected'), [(PLAIN, 'segmentation', SEGMENTATION_SHAPES), (DEPTH, 'depth', DEPTH_SHAPES)]
)
def test_parameters_have_the_published_names_and_shapes(name, task, expected, folder):
    """All has a place in the published files."""
    model = on_meta(full_size(name, folder))
    shapes = {LAYOUTS[task].theirs(ours): tuple(tensor.shape) for ours, tensor in model.state_dict().items()}
    assert {key: shapes.get(key) for key in expected} == expected
    assert [ours for ours in model.state_dict() if LAYOUTS[task].theirs(ours) is None] == []


@pytest.mark.parametrize('name', [PLAIN, TWIN])
def test_full_size_on_the_meta_device(name, folder):
    """Numbers of parameters, and shapes at 512² and at a size that is not square; the twin's models are the plain one,
    see `test_the_stages`."""
    model = on_meta(full_size(name, folder))
    exploiter = getattr(model, 'exploiter', model)
    unet = 859_520_964 - (320 * 1280 + 1280 + 1280 * 1280 + 1280)  # all but what makes embeddings of timesteps
    prompts = 150 * 768 + 3 * 1280
    projections = sum(768 * (width * 9 + 1) + 2 * 768 for width in (320, 640, 1280, 1280))
    assert trained(exploiter.backbone) == unet + prompts + projections
    if exploiter is not model:
        assert trained(model.creator) == 0
        return
    exploiter.eval()
    exploiter.backbone._range_checked = True  # needs values
    for height, width in ((512, 512), (512, 704)):
        levels = exploiter.backbone(torch.zeros(1, 3, height, width, device='meta'))
        assert [tuple(x.shape) for x in levels] == [(1, 150, height // n, width // n) for n in (4, 8, 16, 32)]
        assert exploiter.decode_head(levels).shape == (1, 150, height // 4, width // 4)
        assert exploiter.auxiliary_head(levels).shape == (1, 150, height // 16, width // 16)


def test_the_recipe(folder):
    """The U-Net at a tenth, no decay of norms; batch 8; seven scales, each mirrored too."""
    cfg = full_size(PLAIN, folder)
    model = on_meta(cfg)
    init_default_scope('mmseg')
    groups = {
        id(p): g for g in build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups for p in g['params']
    }
    norms = (torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.modules.batchnorm._BatchNorm)
    of_norms = {id(p) for m in model.modules() if isinstance(m, norms) for p in m.parameters()}
    of_unet = {id(p) for p in model.backbone.diffusion.unet.parameters()}
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in named.items():
        group = groups[id(parameter)]
        assert group['lr'] == pytest.approx(8e-6 if id(parameter) in of_unet else 8e-5), name
        assert group['weight_decay'] == (0 if id(parameter) in of_norms else 1e-3), name
    assert len(named) == len(groups) and {'backbone.prompts.tokens.0', 'backbone.prompts.times.2'} <= named.keys()
    assert (cfg.global_batch_size, cfg.train_cfg.max_iters) == (8, 80000)
    scales, flips = cfg.tta_pipeline[1]['transforms'][:2]
    assert [step['scale'][1] for step in scales] == [256, 384, 512, 640, 768, 896, 1024] and len(flips) == 2


def test_the_stages():
    cfg, plain, vpd = (config(name) for name in (TWIN, PLAIN, 'diff2in1/vpd_ade20k'))
    assert cfg.model.segmentor == plain.model
    warmup = warmup_config(cfg, Path('warmup'))
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'global_batch_size'):
        assert warmup[key] == plain[key], key
    for key in ('custom_hooks', 'train_cfg', 'global_batch_size'):
        assert cfg[key] == vpd[key], key
    assert cfg.stages.synthesis == vpd.stages.synthesis


@pytest.mark.parametrize('name', [PLAIN, TWIN])
def test_a_training_step(name, tiny, tmp_path):
    cfg = narrow(name, *tiny)
    cfg.work_dir, cfg.train_cfg.max_iters = str(tmp_path), 1
    for part in ('val', 'test'):
        cfg[f'{part}_dataloader'] = cfg[f'{part}_cfg'] = cfg[f'{part}_evaluator'] = None
    split_global_batch(cfg, 1)
    runner = build_runner(cfg)
    before = {n: p.detach().clone() for n, p in runner.model.named_parameters() if p.requires_grad}
    runner.train()
    moved = [n for n, p in runner.model.named_parameters() if n in before and not torch.equal(p, before[n])]
    for part in ('unet', 'prompts.tokens', 'prompts.times', 'rearrangement', 'decode_head', 'auxiliary_head'):
        assert any(part in name for name in moved), part
    assert not any('creator' in name for name in moved)


@pytest.mark.slow
def test_the_chain_on_tiny_weights(tiny, tmp_path):
    """Warm-up, creation, self-improving, test in slide mode over images of 32 × 48."""
    results = train(narrow(TWIN, *tiny), tmp_path / 'run')
    assert results['warmup']['iters'] == results['self_improving']['iters'] == 2
    assert math.isfinite(results['test']['mIoU']) and 'exploiter/mIoU' in results['test']
